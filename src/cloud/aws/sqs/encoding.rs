//! Encoding of the port's values for SQS: bodies are base64 text, times are whole seconds.

use std::time::Duration;

use aws_sdk_sqs::types::{Message as SqsMessage, MessageSystemAttributeName};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;

use crate::cloud::{Delivery, Message, Receipt};

/// Encodes a message's body as text.
pub(super) fn encode(body: &Bytes) -> String {
    BASE64.encode(body)
}

/// Returns the length in bytes of a message's body as encoded by [`encode`].
pub(super) fn encoded_len(message: &Message) -> usize {
    message.body.len().div_ceil(3) * 4
}

/// Rounds up to whole seconds, the unit of SQS.
pub(super) fn whole_seconds(duration: Duration) -> i32 {
    duration.as_millis().div_ceil(1000) as i32
}

/// Converts a received message.
pub(super) fn decode(message: SqsMessage) -> Delivery {
    let attributes = message.attributes.unwrap_or_default();
    let receives = attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount).and_then(|n| n.parse().ok());
    let group = attributes.get(&MessageSystemAttributeName::MessageGroupId).cloned();
    let body = message.body.unwrap_or_default();
    Delivery {
        // A body that is not base64 was not sent by Rollcall; the receiver reports it.
        body: BASE64.decode(&body).unwrap_or(body.into_bytes()).into(),
        receipt: Receipt(message.receipt_handle.unwrap_or_default()),
        receives: receives.unwrap_or(1),
        group,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_up_to_whole_seconds() {
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::from_millis(2_001)), 3);
    }

    #[test]
    fn the_length_of_a_body_is_known_before_it_is_encoded() {
        for n in 0..10 {
            let message = Message { body: vec![7; n].into(), ..Message::default() };
            assert_eq!(encoded_len(&message), encode(&message.body).len(), "{n} bytes");
        }
    }

    #[test]
    fn a_received_message_keeps_its_body_receipt_and_count() {
        let count = MessageSystemAttributeName::ApproximateReceiveCount;
        let message = |body: &str| SqsMessage::builder().body(body).receipt_handle("r").build();
        let all = SqsMessage::builder().body("aGk=").receipt_handle("r").attributes(count, "3");
        let delivery = decode(all.attributes(MessageSystemAttributeName::MessageGroupId, "g").build());
        let group = Some("g".into());
        assert_eq!(delivery, Delivery { body: "hi".into(), receipt: Receipt("r".into()), receives: 3, group });
        assert_eq!(decode(message("aGk=")).receives, 1, "no count");
        assert_eq!(decode(message("no base64!")).body, "no base64!");
    }
}
