//! What a job of recognition asks for, encoded in its kind.

use crate::job::JobKind;

/// Most candidates that a job can ask for.
pub const MAX_CANDIDATES: usize = 100;

/// Most candidates in the result of one job, for all of its faces or embeddings together. With names of 100 characters of
/// four bytes, they take half of the largest reply (768 KiB).
pub const MAX_CANDIDATES_IN_ALL: usize = 1_000;

/// First of the kinds of [`Task::Identify`]; the number of candidates is added.
const IDENTIFY: u32 = 100;
/// First of the kinds of [`Task::Match`]; the number of candidates is added.
const MATCH: u32 = 300;

/// What a job asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Name the people in an image, and keep the image with its label and result.
    Recognise,
    /// Return the embeddings of the faces in an image, and keep nothing.
    Embed,
    /// Return the embeddings of the faces in an image and up to this many people who are most similar to each, and keep
    /// nothing.
    Identify(usize),
    /// Return up to this many people who are most similar to each of some embeddings, and keep nothing. The payload is a
    /// JSON array of embeddings.
    Match(usize),
}

impl Task {
    /// Returns the task of a kind of job; `None` if the kind is not known.
    pub fn of(kind: JobKind) -> Option<Self> {
        let candidates = |first: u32| {
            let count = kind.0.checked_sub(first)? as usize;
            (1..=MAX_CANDIDATES).contains(&count).then_some(count)
        };
        match (candidates(IDENTIFY), candidates(MATCH)) {
            (Some(count), _) => Some(Self::Identify(count)),
            (_, Some(count)) => Some(Self::Match(count)),
            _ if kind == super::EMBED => Some(Self::Embed),
            _ if kind == super::RECOGNISE => Some(Self::Recognise),
            _ => None,
        }
    }

    /// Returns the kind of the jobs with this task. The number of candidates is limited to [`MAX_CANDIDATES`], and is at
    /// least 1.
    pub fn kind(self) -> JobKind {
        let count = |count: usize| count.clamp(1, MAX_CANDIDATES) as u32;
        match self {
            Self::Recognise => super::RECOGNISE,
            Self::Embed => super::EMBED,
            Self::Identify(candidates) => JobKind(IDENTIFY + count(candidates)),
            Self::Match(candidates) => JobKind(MATCH + count(candidates)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_read_from_its_kind() {
        for task in [Task::Recognise, Task::Embed] {
            assert_eq!(Task::of(task.kind()), Some(task));
        }
        for count in 1..=MAX_CANDIDATES {
            for task in [Task::Identify(count), Task::Match(count)] {
                assert_eq!(Task::of(task.kind()), Some(task));
            }
        }
        assert_eq!(Task::of(Task::Identify(0).kind()), Some(Task::Identify(1)));
        assert_eq!(Task::of(Task::Match(1_000).kind()), Some(Task::Match(MAX_CANDIDATES)));
        for unknown in [2, IDENTIFY, MATCH, 999, 1_000, u32::MAX] {
            assert_eq!(Task::of(JobKind(unknown)), None, "{unknown}");
        }
    }
}
