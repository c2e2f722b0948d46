//! A damaged file of the queues: a fuzz target.

use std::sync::LazyLock;

use super::{disk::Disk, *};

/// The queue whose messages are in the files.
const QUEUE: &str = "jobs.fifo";
/// Number of messages in the files.
const MESSAGES: Seq = 12;

/// Bytes of a position in a file.
const OFFSET: usize = 3;

/// Two files with messages: one that was closed, and one as it is when the process is killed.
static FILES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let disk = Disk::default();
    let file = file_on(&disk).expect("a new file");
    for seq in 1..=MESSAGES {
        file.commit(&put(seq)).expect("written");
    }
    let killed = disk.bytes().clone();
    drop(file);
    [disk.bytes().clone(), killed]
});

fn file_on(disk: &Disk) -> Result<JournalFile, FileError> {
    JournalFile::open(disk.opener(), None)
}

fn put(seq: Seq) -> Changes {
    let message = StoredMessage { receives: 0, visible_at: 0, group: Some(seq.to_string()), dedup: None };
    let mut changes = Changes::default();
    changes.puts.insert(seq, Put::new(Arc::from(QUEUE), message, body_of(seq), now(), Duration::ZERO));
    changes
}

fn body_of(seq: Seq) -> Bytes {
    vec![seq as u8; 300].into()
}

/// Opens a damaged file, reads all of it and writes a message. Bit 0 of the first byte chooses the file, and bit 1 whether
/// it is cut. The rest are changes of the file: where (three bytes), how many bytes, and these bytes.
pub(crate) fn damaged_file(input: &[u8]) {
    let Some((first, mut edits)) = input.split_first() else { return };
    let mut content = FILES[usize::from(first & 1)].clone();
    if first & 2 != 0
        && let Some(at) = offset(&mut edits, content.len())
    {
        content.truncate(at);
    }
    while let Some(at) = offset(&mut edits, content.len()) {
        let Some((count, rest)) = edits.split_first() else { break };
        let count = usize::from(count % 32) + 1;
        let (new, rest) = rest.split_at(count.min(rest.len()));
        for (byte, new) in content[at..].iter_mut().zip(new) {
            *byte = *new;
        }
        edits = rest;
    }
    let Ok(file) = file_on(&Disk::with(content)) else { return };
    let last = file.last_seq().unwrap_or(MESSAGES);
    for (seq, _) in file.messages(QUEUE).unwrap_or_default() {
        let body = file.body(QUEUE, seq);
        assert!(body.is_err() || body == Ok(Some(body_of(seq))), "message {seq} is not what was written");
    }
    let _ = file.commit(&put(last.saturating_add(1)));
    let _ = file.messages(QUEUE);
}

/// Takes a position in a file of this length.
fn offset(edits: &mut &[u8], length: usize) -> Option<usize> {
    let (bytes, rest) = edits.split_first_chunk::<OFFSET>()?;
    *edits = rest;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) as usize).filter(|_| length > 0).map(|at| at % length)
}

/// Returns changes of each file: none, one in the header, one in the pages, a cut.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let edit = |at: u32, new: &[u8]| [&at.to_le_bytes()[..OFFSET], &[new.len() as u8 - 1], new].concat();
    vec![
        ("closed", vec![0]),
        ("killed", vec![1]),
        ("closed-header", [vec![0], edit(9, &[0xFF])].concat()),
        ("killed-header", [vec![1], edit(70, &[1, 2, 3, 4])].concat()),
        ("closed-pages", [vec![0], edit(4096, &[0xFF; 8]), edit(8192, &[0xFF; 8])].concat()),
        ("killed-pages", [vec![1], edit(12_288, &[0; 8]), edit(16_384, &[0xFF; 8])].concat()),
        ("cut", [vec![2], 20_000_u32.to_le_bytes()[..OFFSET].to_vec()].concat()),
        ("cut-killed", [vec![3], 4096_u32.to_le_bytes()[..OFFSET].to_vec()].concat()),
    ]
}
