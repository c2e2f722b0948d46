//! What queues take: SQS's limits, kept by every adapter, so that what works on one machine works on AWS.

use std::time::Duration;

use super::{CloudError, CloudResult, Message};

/// Bytes of one body: in base64 they are SQS's 1 MiB.
pub const MAX_BODY: usize = (1 << 20) / 4 * 3;
/// Messages in one receive, entries in one call.
pub const MAX_BATCH: usize = 10;
/// Longest long poll.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Longest delay of one message.
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);
/// Longest visibility.
const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 3600);

/// Whether the queue takes this message.
pub fn check_message(queue: &str, fifo: bool, message: &Message) -> CloudResult<()> {
    let size = message.body.len();
    if size > MAX_BODY {
        return Err(CloudError::Invalid(format!("a message of {size} bytes; the limit is {MAX_BODY}")));
    }
    if fifo != message.group.is_some() {
        let rule = if fifo { "needs" } else { "takes no" };
        return Err(CloudError::Invalid(format!("queue {queue} {rule} message group")));
    }
    if message.delay > MAX_DELAY || (fifo && !message.delay.is_zero()) {
        return Err(CloudError::Invalid(
            "a delay is at most 15 minutes, and not for one message of a FIFO queue".into(),
        ));
    }
    Ok(())
}

/// Whether a receive may ask for this.
pub fn check_receive(max: usize, wait: Duration) -> CloudResult<()> {
    if !(1..=MAX_BATCH).contains(&max) || wait > MAX_WAIT {
        return Err(CloudError::Invalid(format!(
            "a receive takes 1 to {MAX_BATCH} messages and waits at most {} s",
            MAX_WAIT.as_secs()
        )));
    }
    Ok(())
}

/// Whether a message may be hidden for so long.
pub fn check_visibility(visibility: Duration) -> CloudResult<()> {
    if visibility > MAX_VISIBILITY {
        return Err(CloudError::Invalid("a message can be hidden for at most 12 hours".into()));
    }
    Ok(())
}
