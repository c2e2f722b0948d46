//! Encodes values for queues and binary storage: a version byte, then bincode. No other file uses bincode.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::job::{Job, JobId, JobKind, Payload, Reply};

/// A value that is sent through a queue or stored in binary.
pub trait Wire: Serialize + DeserializeOwned {
    /// Highest first byte of an encoded value. Incremented when the type changes shape.
    const VERSION: u8 = 1;

    /// First byte of this value: an earlier version than [`Self::VERSION`] if programs that read only that one understand
    /// the value nevertheless.
    fn version(&self) -> u8 {
        Self::VERSION
    }

    /// Reads the value from the body of an earlier version; `None` if that version is no longer supported.
    fn from_earlier(_version: u8, _body: Body<'_>) -> Option<Result<Self, WireError>> {
        None
    }
}

/// What follows the version byte.
pub struct Body<'a>(&'a [u8]);

impl Body<'_> {
    /// Decodes the body. All bytes must be used.
    ///
    /// # Errors
    /// The bytes are not a valid value, or continue after it.
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, WireError> {
        let decoded = if self.0.len() <= SMALL_BODY {
            bincode::serde::decode_from_slice(self.0, format::<SMALL_BYTES>())
        } else {
            bincode::serde::decode_from_slice(self.0, format::<MAX_BYTES>())
        };
        let (value, used) = decoded.map_err(|e| WireError::Malformed(e.to_string()))?;
        if used != self.0.len() {
            return Err(WireError::Malformed(format!("{} trailing bytes", self.0.len() - used)));
        }
        Ok(value)
    }
}

impl Wire for Job {
    const VERSION: u8 = 3; // 1 had no dataset; programs that write 2 take every kind but two for one to keep

    fn version(&self) -> u8 {
        if self.kind.is_understood_by_all() { 2 } else { 3 }
    }

    fn from_earlier(version: u8, body: Body<'_>) -> Option<Result<Self, WireError>> {
        #[derive(serde::Deserialize)]
        struct First(JobId, JobKind, String, String, Payload, u64, u64);
        if version == 2 {
            return Some(body.decode());
        }
        (version == 1).then(|| {
            body.decode().map(|First(id, kind, reply_to, file, payload, min_version, submitted_ms)| Self {
                id,
                kind,
                reply_to,
                file,
                payload,
                dataset: String::new(),
                min_version,
                submitted_ms,
            })
        })
    }
}

impl Wire for Reply {
    const VERSION: u8 = 2; // 1 carried the result itself instead of its bytes
}

/// Upper bound for one decoded value. Without it, ten hostile bytes can allocate terabytes.
const MAX_BYTES: usize = 64 << 20;
/// The same for a body of at most [`SMALL_BODY`] bytes, because memory is allocated for as many bytes as the body claims
/// to have. In memory, a value takes a few times the bytes of its encoding.
const SMALL_BYTES: usize = 1 << 20;
/// Length of a small body, in bytes.
const SMALL_BODY: usize = 128 << 10;

/// Why bytes cannot be decoded, or a value cannot be encoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are not an encoded value, or the value cannot be encoded.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// The version is neither the current one nor an earlier one that is supported.
    #[error("message has format {found}, and this program writes {expected}: upgrade the older side")]
    Version {
        /// The version byte of the message.
        found: u8,
        /// The current version.
        expected: u8,
    },
}

fn format<const LIMIT: usize>() -> Configuration<LittleEndian, Fixint, Limit<LIMIT>> {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<LIMIT>()
}

/// Encodes a value.
///
/// # Errors
/// The value takes more than 64 MiB.
pub fn to_bytes<T: Wire>(value: &T) -> Result<Bytes, WireError> {
    let mut out = vec![value.version()];
    bincode::serde::encode_into_std_write(value, &mut out, format::<MAX_BYTES>())
        .map_err(|e| WireError::Malformed(e.to_string()))?;
    Ok(out.into())
}

/// Decodes a value of the current or an earlier version. All bytes must be used.
///
/// # Errors
/// The bytes have a version that is not supported, are not a valid value, or continue after it.
pub fn from_bytes<T: Wire>(bytes: &[u8]) -> Result<T, WireError> {
    let (&version, rest) = bytes.split_first().ok_or_else(|| WireError::Malformed("empty".into()))?;
    if version == T::VERSION {
        return Body(rest).decode();
    }
    let earlier = if version < T::VERSION { T::from_earlier(version, Body(rest)) } else { None };
    earlier.unwrap_or(Err(WireError::Version { found: version, expected: T::VERSION }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Failure, FailureKind};

    fn job() -> Job {
        Job {
            id: JobId(1),
            kind: JobKind(1),
            reply_to: "r".into(),
            file: "a".into(),
            payload: Payload::Inline(Bytes::from_static(b"xy")),
            dataset: "d".into(),
            min_version: 3,
            submitted_ms: 4,
        }
    }

    #[test]
    fn the_encoding_of_a_job_is_stable() {
        let encoded = |version: u8, dataset: &[u8]| {
            let mut bytes = vec![version];
            bytes.extend(1_u128.to_le_bytes()); // id
            bytes.extend(1_u32.to_le_bytes()); // kind
            bytes.extend([&1_u64.to_le_bytes()[..], b"r", &1_u64.to_le_bytes(), b"a"].concat()); // reply_to, file
            bytes.extend([&0_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), b"xy"].concat()); // inline payload
            bytes.extend(dataset);
            bytes.extend([3_u64.to_le_bytes(), 4_u64.to_le_bytes()].concat()); // min_version, submitted_ms
            bytes
        };
        let current = encoded(2, &[&1_u64.to_le_bytes()[..], b"d"].concat());
        assert_eq!(to_bytes(&job()).expect("encoded"), current);
        assert_eq!(from_bytes::<Job>(&current).expect("decoded"), job());
        for (kind, version) in [(0, 2), (1, 2), (2, 3), (101, 3), (999, 3), (1_000, 2), (u32::MAX, 2)] {
            let job = Job { kind: JobKind(kind), ..job() };
            let bytes = to_bytes(&job).expect("encoded");
            assert_eq!(bytes[0], version, "kind {kind}");
            assert_eq!(from_bytes(&bytes), Ok(job));
        }
        let first = from_bytes::<Job>(&encoded(1, b"")).expect("decoded");
        assert_eq!(first, Job { dataset: String::new(), ..job() }, "queued by an earlier release");
    }

    #[test]
    fn malformed_bytes_are_rejected() {
        let good = to_bytes(&job()).expect("encoded");
        let mut newer = good.to_vec();
        newer[0] = 9;
        assert_eq!(from_bytes::<Job>(&newer), Err(WireError::Version { found: 9, expected: 3 }));
        assert!(from_bytes::<Job>(&good[..good.len() - 1]).is_err(), "cut off");
        assert!(from_bytes::<Job>(&[&good[..], &[0]].concat()).is_err(), "one byte too many");
        assert!(from_bytes::<Job>(&[]).is_err());
        let hostile = [&[2][..], &[0; 20], &u64::MAX.to_le_bytes()].concat(); // a reply_to of 2^64 - 1 bytes
        assert!(from_bytes::<Job>(&hostile).is_err());
    }

    #[test]
    fn a_short_message_cannot_claim_much_memory() {
        let claim = 8_u64 << 20;
        let hostile = [&[2][..], &[0; 20], &claim.to_le_bytes(), &[0; 100]].concat(); // a reply_to of 8 MiB
        let (decoded, bytes) = crate::fuzzing::memory::peak(|| from_bytes::<Job>(&hostile));
        assert!(decoded.is_err() && bytes < SMALL_BYTES, "{bytes} bytes");
        let large = Job { payload: Payload::Inline(vec![7; 2 << 20].into()), ..job() };
        assert_eq!(from_bytes(&to_bytes(&large).expect("encoded")), Ok(large));
    }

    /// A pair, which was a single number in version 2.
    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Pair(u8, u8);

    impl Wire for Pair {
        const VERSION: u8 = 3;

        fn from_earlier(version: u8, body: Body<'_>) -> Option<Result<Self, WireError>> {
            (version == 2).then(|| body.decode().map(|number| Self(number, 0)))
        }
    }

    #[test]
    fn values_are_read_from_supported_earlier_versions() {
        assert_eq!(to_bytes(&Pair(5, 6)).expect("encoded"), vec![3, 5, 6]);
        assert_eq!(from_bytes(&[3, 5, 6]), Ok(Pair(5, 6)));
        assert_eq!(from_bytes(&[2, 5]), Ok(Pair(5, 0)));
        assert!(matches!(from_bytes::<Pair>(&[2, 5, 6]), Err(WireError::Malformed(_))), "a trailing byte");
        for unknown in [1, 4] {
            let error = WireError::Version { found: unknown, expected: 3 };
            assert_eq!(from_bytes::<Pair>(&[unknown, 5, 6]), Err(error));
        }
    }

    #[test]
    fn replies_survive_the_queue() {
        for outcome in [Ok(Bytes::from_static(b"{}")), Err(Failure::new(FailureKind::Damaged, "cut off"))] {
            let reply = Reply { id: JobId(7), outcome, worker: "i-1".into(), worker_ms: 1.5 };
            assert_eq!(from_bytes::<Reply>(&to_bytes(&reply).expect("encoded")), Ok(reply));
        }
    }
}
