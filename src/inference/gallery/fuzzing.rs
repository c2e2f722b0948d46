//! What the fuzz targets check of a gallery that was read from the store.

use super::{
    manifest::{Manifest, PartId, PartInfo},
    part::Part,
    person::Person,
};

/// Checks that a manifest can be used, whatever is in it.
pub(crate) fn check_manifest(manifest: &Manifest) {
    let at = manifest.part_of("Ada");
    assert!(at == 0 || at < manifest.parts.len());
    let counted: u64 = manifest.parts.iter().map(|part| u64::from(part.photos)).sum();
    assert_eq!(manifest.photos() as u64, counted);
    assert!(manifest.dimension() != Some(0));
}

/// Checks that a part that is accepted can be divided, and that nobody is lost.
pub(crate) fn check_part(part: &Part) {
    let dimension = part.people.iter().flat_map(|person| &person.embeddings).next().map_or(0, Vec::len);
    if part.is_valid(dimension) {
        let split = part.clone().split(2);
        assert!(split.iter().all(|part| part.is_valid(dimension)));
        assert_eq!(split.iter().map(Part::photos).sum::<usize>(), part.photos());
    }
}

/// Returns a manifest and its part with rejected faces.
pub(crate) fn seeds_with_rejected() -> (Manifest, Part) {
    let (mut manifest, mut part, _) = seeds();
    part.people[1].rejected = vec![vec![0.0, 1.0], vec![0.8, 0.6]];
    manifest.with_rejected.insert(PartId(2));
    (manifest, part)
}

/// Returns a manifest, its part, and the bytes of a snapshot as earlier releases wrote it.
pub(crate) fn seeds() -> (Manifest, Part, Vec<u8>) {
    let person = |name: &str| Person::new(name, vec![vec![0.6, 0.8], vec![1.0, 0.0]]);
    let part = Part { people: vec![person("Ada"), person("Grace")] };
    let parts = vec![PartInfo::of(PartId(1), &part), PartInfo::of(PartId(2), &part)];
    let manifest = Manifest { version: 2, model: None, dimension: 2, parts, ..Manifest::default() };
    let snapshot = include_bytes!("../../../tests/inference/gallery_without_model.bin").to_vec();
    (manifest, part, snapshot)
}
