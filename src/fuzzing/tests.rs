//! Runs every target on its corpus, and on mutations of it that are the same each time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::IndexedRandom as _};

use super::*;

/// Values at which lengths and numbers overflow.
const INTERESTING: [u64; 8] = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, u64::MAX];
/// Longest mutated input, in bytes.
const MAX_INPUT: usize = 64 << 10;

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder(target)).expect("the corpus");
    let mut files: Vec<_> = files.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{}: run `make fuzz-corpus`", target.name);
    files.iter().map(|file| fs::read(file).expect("readable")).collect()
}

/// Changes an input as AFL++ does: bits, bytes, numbers, blocks, and parts of other inputs.
fn mutated(corpus: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut input = corpus.choose(random).expect("a corpus").clone();
    for _ in 0..random.random_range(1..=6) {
        if input.is_empty() {
            input.push(random.random());
        }
        let at = random.random_range(0..input.len());
        let length = random.random_range(1..=16.min(input.len() - at));
        match random.random_range(0..8) {
            0 => input[at] ^= 1 << random.random_range(0..8),
            1 => input[at] = random.random(),
            2 => random.fill_bytes(&mut input[at..at + length]),
            3 => {
                let number = INTERESTING.choose(random).expect("some").to_le_bytes();
                for (byte, new) in input[at..].iter_mut().zip(&number[..1 << random.random_range(0..4)]) {
                    *byte = *new;
                }
            }
            4 => drop(input.drain(at..at + length)),
            5 => input.truncate(at),
            6 => {
                let block = input[at..at + length].to_vec();
                let to = random.random_range(0..=input.len());
                drop(input.splice(to..to, block));
            }
            _ => {
                let other = corpus.choose(random).expect("a corpus");
                let from = random.random_range(0..=other.len());
                drop(input.splice(at.., other[from..].iter().copied()));
            }
        }
    }
    input.truncate(MAX_INPUT);
    input
}

fn run(name: &str, mutations: usize) {
    let target = Target::find(name).expect("a target");
    let corpus = corpus(target);
    let check = |input: &[u8], what: &str| {
        if catch_unwind(AssertUnwindSafe(|| target.run(input))).is_err() {
            let file = std::env::temp_dir().join(format!("rollcall-fuzz-{name}"));
            fs::write(&file, input).expect("written");
            panic!("{name}: {what} does not hold; the input is in {}", file.display());
        }
    };
    check(&[], "no input");
    for (i, input) in corpus.iter().enumerate() {
        check(input, &format!("file {i} of the corpus"));
    }
    let mut random = ChaCha8Rng::seed_from_u64(31);
    for i in 0..mutations {
        check(&mutated(&corpus, &mut random), &format!("mutation {i}"));
    }
}

#[test]
fn a_jpeg_is_decoded_or_refused_within_its_limits() {
    run("jpeg", 4_000);
}

#[test]
fn a_png_is_decoded_or_refused_within_its_limits() {
    run("png", 4_000);
}

#[test]
fn a_webp_is_decoded_or_refused_within_its_limits() {
    run("webp", 4_000);
}

#[test]
fn any_file_is_decoded_or_refused_within_its_limits() {
    run("image", 4_000);
}

#[test]
fn an_upload_is_received_or_refused_within_its_limits() {
    run("upload", 4_000);
}

#[test]
fn a_request_of_a_client_of_compreface_is_received_or_refused_within_its_limits() {
    run("compreface", 4_000);
}

#[test]
fn a_binary_value_has_one_encoding() {
    run("wire", 20_000);
}

#[test]
fn a_damaged_file_of_the_queues_is_an_error() {
    run("journal", 400);
}

#[test]
fn settings_are_read_again_as_they_are_shown() {
    run("settings", 300);
}

#[test]
fn a_worker_cannot_harm_its_parent_with_frames() {
    run("socket", 1_500);
}

/// The variable with which the test below writes the corpus: `make fuzz-corpus`.
const WRITE: &str = "ROLLCALL_WRITE_CORPUS";

#[test]
fn the_corpus_is_what_the_targets_make() {
    for target in TARGETS {
        for (name, bytes) in (target.seeds)() {
            let file = folder(target).join(name);
            if std::env::var_os(WRITE).is_some() {
                fs::create_dir_all(folder(target)).expect("created");
                fs::write(&file, &bytes).expect("written");
            }
            let same = fs::read(&file).is_ok_and(|written| written == bytes);
            assert!(same, "{}: run `make fuzz-corpus`", file.display());
        }
    }
}
