use std::{collections::HashSet, fs::File};

use proptest::prelude::*;
use rand::{Rng, SeedableRng as _, rngs::ChaCha12Rng};

use super::{file::Section, *};
use crate::similarity::{dot, normalise};

fn rng(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

/// A random vector of unit length.
pub fn vector(dimension: usize, rng: &mut impl Rng) -> Vec<f32> {
    let mut vector: Vec<f32> = (0..dimension).map(|_| (0..4).map(|_| rng.random_range(-1.0..1.0_f32)).sum()).collect();
    assert!(normalise(&mut vector));
    vector
}

/// A photo of a person: `spread` is the length of what is added to the person's direction.
fn photo(person: &[f32], spread: f32, rng: &mut impl Rng) -> Vec<f32> {
    let noise = vector(person.len(), rng);
    let mut photo: Vec<f32> = person.iter().zip(noise).map(|(p, n)| p + spread * n).collect();
    assert!(normalise(&mut photo));
    photo
}

struct People {
    directions: Vec<Vec<f32>>,
    photos: Vec<Vec<f32>>,
}

impl People {
    fn new(count: usize, photos: usize, dimension: usize, rng: &mut impl Rng) -> Self {
        let directions: Vec<_> = (0..count).map(|_| vector(dimension, rng)).collect();
        let photos =
            directions.iter().map(|person| (0..photos).flat_map(|_| photo(person, 0.7, rng)).collect()).collect();
        Self { directions, photos }
    }

    fn index(&self, file: File, rng: &mut impl Rng) -> Index {
        let mut builder = Builder::new(file, self.directions[0].len()).unwrap();
        for (person, photos) in self.photos.iter().enumerate() {
            builder.add(&format!("person {person}"), photos).unwrap();
        }
        builder.finish(b"about it", rng).unwrap()
    }

    /// The exact scan.
    fn nearest(&self, query: &[f32], hidden: impl Fn(u32) -> bool) -> Option<Match> {
        let of = |photos: &[f32]| photos.chunks_exact(query.len()).map(|row| dot(row, query)).max_by(f32::total_cmp);
        (0..)
            .zip(&self.photos)
            .filter(|(owner, _)| !hidden(*owner))
            .filter_map(|(owner, photos)| Some(Match { owner, similarity: of(photos)? }))
            .max_by(|a, b| a.similarity.total_cmp(&b.similarity))
    }
}

fn file() -> File {
    tempfile::tempfile().unwrap()
}

#[test]
fn the_nearest_person_is_found_with_the_similarity_of_the_exact_scan() {
    let mut rng = rng(1);
    for dimension in [128, 100, 512] {
        let people = People::new(2000, 6, dimension, &mut rng);
        let index = people.index(file(), &mut rng);
        assert_eq!((index.owners(), index.rows(), index.dimension()), (2000, 12_000, dimension));
        for person in &people.directions[..300] {
            let query = photo(person, 0.7, &mut rng);
            let exact = people.nearest(&query, |_| false);
            assert_eq!(index.search(&query, |_| false), exact);
            let hidden = exact.unwrap().owner;
            assert_ne!(index.search(&query, |owner| owner == hidden).unwrap().owner, hidden);
        }
    }
}

#[test]
fn one_scan_finds_people_as_near_as_one_scan_for_each() {
    let mut rng = rng(8);
    let people = People::new(2000, 6, 128, &mut rng);
    let index = people.index(file(), &mut rng);
    let mut similarities = (0.0, 0.0);
    for person in &people.directions[..50] {
        let query = photo(person, 0.7, &mut rng);
        let mut seen = HashSet::from([3]);
        let one_by_one: Vec<Match> = std::iter::from_fn(|| {
            let next = index.search(&query, |owner| seen.contains(&owner))?;
            seen.insert(next.owner);
            Some(next)
        })
        .take(20)
        .collect();
        assert_eq!(one_by_one.len(), 20);
        let found = index.search_several(&query, 20, |owner| owner == 3);
        assert_eq!((found.len(), found[0]), (20, one_by_one[0]));
        let sum = |found: &[Match]| found.iter().map(|one| one.similarity).sum::<f32>();
        similarities = (similarities.0 + sum(&found), similarities.1 + sum(&one_by_one));
        assert!(found.is_sorted_by(|a, b| a.similarity >= b.similarity), "{found:?}");
        let owners: HashSet<u32> = found.iter().map(|one| one.owner).collect();
        assert!(owners.len() == 20 && !owners.contains(&3), "{found:?}");
        assert_eq!(index.search_several(&query, 20, |_| true), []);
    }
    // Of the last few, each finds some that the other does not.
    assert!(similarities.0 >= 0.999 * similarities.1, "{similarities:?}");
    assert_eq!(index.search_several(&people.directions[0], 0, |_| false), []);
}

#[test]
fn an_erased_person_is_not_found_and_leaves_no_bytes_in_the_file() {
    let mut rng = rng(3);
    let people = People::new(60, 5, 128, &mut rng);
    let path = tempfile::NamedTempFile::new().unwrap();
    let index = people.index(path.reopen().unwrap(), &mut rng);
    let other = Index::open(path.path()).unwrap();
    let (query, before) = (&people.photos[17][..128], std::fs::read(&path).unwrap());
    assert_eq!(index.search(query, |_| false).unwrap().owner, 17);
    assert_eq!((index.label(17), index.embeddings(17)), ("person 17", &people.photos[17][..]));

    let gone = HashSet::from([17]);
    index.erase(&gone).unwrap();
    index.erase(&gone).unwrap();
    for index in [&index, &other, &Index::open(path.path()).unwrap()] {
        assert_ne!(index.search(query, |_| false).unwrap().owner, 17);
        assert!(index.label(17).bytes().all(|byte| byte == 0) && index.embeddings(17).iter().all(|v| *v == 0.0));
        let neighbour = &people.photos[18][..128];
        assert_eq!(index.search(neighbour, |_| false).unwrap().owner, 18);
        assert_eq!(index.label(18), "person 18");
    }
    // All of them: no number of any embedding, also as the mean or the direction of a cell, is left.
    index.erase(&(0..60).collect()).unwrap();
    assert_eq!(index.search(query, |_| false), None);
    let after = std::fs::read(&path).unwrap();
    let labels = |bytes: &[u8]| bytes.windows(6).filter(|window| *window == b"person").count();
    assert_eq!((labels(&before), labels(&after)), (60, 0));
    let numbers = |section| index.floats(section).iter().filter(|number| **number != 0.0).count();
    for section in [Section::Rows, Section::Means, Section::Directions] {
        assert_eq!(numbers(section), 0, "{section:?}");
    }
    assert!(index.floats(Section::Gains).iter().all(|gain| gain.is_nan()));
    assert!(index.codes().iter().all(|block| block.0 == [0; 8]));
}

#[test]
fn the_index_keeps_its_description() {
    let mut rng = rng(4);
    assert_eq!(People::new(3, 1, 8, &mut rng).index(file(), &mut rng).description(), b"about it");
}

#[test]
fn what_cannot_be_indexed_is_refused() {
    let mut builder = Builder::new(file(), 4).unwrap();
    assert!(matches!(builder.add("Ada", &[1.0, 0.0, 0.0]), Err(IndexError::Invalid(_))));
    let empty = Builder::new(file(), 4).unwrap().finish(b"", &mut rng(5));
    assert!(matches!(empty, Err(IndexError::Invalid(_))));
}

#[test]
fn one_embedding_is_an_index() {
    let mut builder = Builder::new(file(), 3).unwrap();
    builder.add("Ada", &[0.0, 1.0, 0.0]).unwrap();
    let index = builder.finish(b"", &mut rng(6)).unwrap();
    assert_eq!(index.search(&[0.0, 1.0, 0.0], |_| false), Some(Match { owner: 0, similarity: 1.0 }));
    assert_eq!(index.search(&[0.0, 1.0, 0.0], |_| true), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_refused_or_searched_without_a_panic(cut in any::<prop::sample::Index>(), hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), truncate: bool) {
        let mut rng = rng(7);
        let people = People::new(8, 2, 8, &mut rng);
        let path = tempfile::NamedTempFile::new().unwrap();
        people.index(path.reopen().unwrap(), &mut rng);
        let mut bytes = std::fs::read(&path).unwrap();
        // Most of the first page is unused.
        let used: Vec<usize> = (0..64).chain(4096..bytes.len()).collect();
        for (at, byte) in hits {
            bytes[*at.get(&used)] = byte;
        }
        if truncate {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, bytes).unwrap();
        if let Ok(index) = Index::open(path.path()) {
            index.search(&people.photos[1][..8], |_| false);
            (0..index.owners()).for_each(|owner| assert!(index.label(owner).len() < 1000));
        }
    }
}
