//! The limits of queues and their messages. They are those of SQS. Every adapter enforces them, so that what works on
//! one machine also works on AWS.

use std::time::Duration;

use super::{CloudError, CloudResult, MAX_BATCH, Message};

/// Largest body in bytes: encoded in base64, it fills SQS's limit of 1 MiB.
pub(crate) const MAX_BODY: usize = (1 << 20) / 4 * 3;
/// Longest long poll.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Longest delay of a message.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(15 * 60);
/// Longest visibility timeout.
const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 3600);

/// Checks that the queue accepts this message.
pub(crate) fn check_message(queue: &str, fifo: bool, message: &Message) -> CloudResult<()> {
    let size = message.body.len();
    if size > MAX_BODY {
        return Err(CloudError::Invalid(format!("the message has {size} bytes; the limit is {MAX_BODY}")));
    }
    if fifo != message.group.is_some() {
        let rule = if fifo { "needs a" } else { "takes no" };
        return Err(CloudError::Invalid(format!("queue {queue} {rule} message group")));
    }
    if fifo && !message.delay.is_zero() {
        return Err(CloudError::Invalid(format!("queue {queue} is a FIFO queue and takes no delay")));
    }
    if message.delay > MAX_DELAY {
        return Err(CloudError::Invalid(format!("a delay is at most {} s", MAX_DELAY.as_secs())));
    }
    Ok(())
}

/// Checks the arguments of a receive.
pub(crate) fn check_receive(max: usize, wait: Duration) -> CloudResult<()> {
    if !(1..=MAX_BATCH).contains(&max) || wait > MAX_WAIT {
        return Err(CloudError::Invalid(format!(
            "a receive takes 1 to {MAX_BATCH} messages and waits at most {} s",
            MAX_WAIT.as_secs()
        )));
    }
    Ok(())
}

/// Checks that a message may be hidden for this long.
pub(crate) fn check_visibility(visibility: Duration) -> CloudResult<()> {
    if visibility > MAX_VISIBILITY {
        return Err(CloudError::Invalid("a message can be hidden for at most 12 hours".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const NANOSECOND: Duration = Duration::from_nanos(1);

    fn message(bytes: usize, delay: Duration) -> Message {
        Message { body: Bytes::from(vec![0; bytes]), delay, ..Message::default() }
    }

    #[test]
    fn a_message_may_reach_the_limits_of_size_and_delay() {
        assert_eq!((MAX_BODY, MAX_DELAY.as_secs()), (786_432, 900), "1 MiB in base64, and 15 minutes");
        assert!(check_message("q", false, &message(MAX_BODY, MAX_DELAY)).is_ok());
        assert!(check_message("q", false, &message(MAX_BODY + 1, Duration::ZERO)).is_err());
        assert!(check_message("q", false, &message(1, MAX_DELAY + NANOSECOND)).is_err());
    }

    #[test]
    fn a_group_is_for_fifo_queues_and_a_delay_for_others() {
        let grouped = |delay| Message { group: Some("g".into()), ..message(1, delay) };
        assert!(check_message("q", true, &grouped(Duration::ZERO)).is_ok());
        assert!(check_message("q", true, &grouped(NANOSECOND)).is_err());
        assert!(check_message("q", true, &message(1, Duration::ZERO)).is_err());
        assert!(check_message("q", false, &grouped(Duration::ZERO)).is_err());
    }

    #[test]
    fn a_receive_and_a_visibility_timeout_may_reach_their_limits() {
        assert_eq!((MAX_BATCH, MAX_WAIT.as_secs(), MAX_VISIBILITY.as_secs()), (10, 20, 43_200));
        assert!(check_receive(1, Duration::ZERO).is_ok() && check_receive(MAX_BATCH, MAX_WAIT).is_ok());
        assert!(check_receive(0, MAX_WAIT).is_err() && check_receive(MAX_BATCH + 1, MAX_WAIT).is_err());
        assert!(check_receive(1, MAX_WAIT + NANOSECOND).is_err());
        assert!(check_visibility(MAX_VISIBILITY).is_ok() && check_visibility(MAX_VISIBILITY + NANOSECOND).is_err());
    }
}
