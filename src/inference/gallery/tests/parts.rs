//! Parts: any history of changes has the same people as one list would have, in parts of limited size, and each change
//! replaces few of them.

use std::collections::BTreeSet;

use super::*;

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let person = ("[a-p]{1,2}", prop::collection::vec(vector(), 1..3));
    let person = person.prop_map(|(name, embeddings)| Person::new(name, embeddings));
    let change = prop_oneof![
        6 => prop::collection::vec(person, 1..4).prop_map(|people| Change::Add(people, model())),
        3 => "[a-p]{1,2}".prop_map(Change::Remove),
    ];
    prop::collection::vec(change, 1..60)
}

/// Checks that the manifest describes the parts, and that these are sorted and small.
fn check(whole: &Whole, limits: Limits) {
    let Whole { manifest, parts } = whole;
    let known: BTreeSet<PartId> = manifest.parts.iter().map(|part| part.id).collect();
    assert_eq!(known, parts.keys().copied().collect(), "no part is left over or missing");
    let people = whole.people();
    assert!(people.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert_eq!(manifest.people(), people.len());
    for info in &manifest.parts {
        let part = &parts[&info.id];
        assert_eq!((info.people as usize, info.photos as usize), (part.people.len(), part.photos()));
        assert_eq!(info.first, part.people[0].name);
        assert!(part.people.len() == 1 || part.photos() * 11 <= limits.max_part, "{} photos", part.photos());
    }
    for person in &people {
        let part = &manifest.parts[manifest.part_of(&person.name)];
        assert!(parts[&part.id].people.contains(person), "{} is where it is looked for", person.name);
    }
}

proptest! {
    #[test]
    fn a_gallery_in_parts_has_the_people_of_one_in_a_single_part(changes in changes()) {
        let single = Limits { max_part: usize::MAX, ..LIMITS };
        let limits = Limits { max_people: 300, max_photos: 300, max_part: 66 };
        let (mut divided, mut whole) = (Whole::default(), Whole::default());
        for change in changes {
            let before = divided.clone();
            let (next, expected) = (divided.after(&change, limits), whole.after(&change, single));
            prop_assert_eq!(next.is_err(), expected.is_err());
            let (Ok(next), Ok(expected)) = (next, expected) else { continue };
            prop_assert_eq!(next.is_some(), expected.is_some());
            let (Some(next), Some(expected)) = (next, expected) else { continue };
            (divided, whole) = (next, expected);
            check(&divided, limits);
            prop_assert_eq!(divided.people(), whole.people());
            prop_assert_eq!(divided.manifest.version, whole.manifest.version);
            // Parts that the change does not concern are the same objects.
            let concerned = change.concerned(&before.manifest);
            for (at, part) in before.manifest.parts.iter().enumerate().filter(|(at, _)| !concerned.contains(at)) {
                prop_assert!(divided.manifest.parts.contains(part), "part {at} was replaced");
            }
        }
    }

    #[test]
    fn a_snapshot_of_an_earlier_release_is_divided_by_the_first_change(people in people()) {
        let before = add(&Whole::default(), &people).unwrap().unwrap();
        let snapshot = Whole::snapshot(7, before.people());
        prop_assert_eq!(snapshot.people(), before.people());
        let after = add(&snapshot, &one("zoe", &[1.0; 11])).unwrap().unwrap();
        prop_assert_eq!(after.manifest.version, 8);
        check(&after, LIMITS);
        prop_assert_eq!(after.without("zoe").unwrap().people(), before.people());
    }
}

#[test]
fn everybody_can_be_replaced_without_reading_them() {
    let people =
        |n: usize| -> Vec<Person> { (0..n).flat_map(|i| one(&format!("p{i:02}"), &[1.0, i as f32])).collect() };
    let whole = add(&Whole::default(), &people(20)).unwrap().unwrap();
    let replace = |people, model: &str| whole.after(&Change::Replace(people, ModelId::known(model)), LIMITS).unwrap();
    let damaged = Whole { parts: BTreeMap::new(), ..whole.clone() };
    let repaired = damaged.after(&Change::Replace(people(20), model()), LIMITS).unwrap().unwrap();
    assert_eq!(repaired.people(), whole.people());
    let fewer = replace(people(3), "m").unwrap();
    check(&fewer, LIMITS);
    assert_eq!((fewer.people().len(), fewer.manifest.version), (3, 2));
    assert_eq!(replace(whole.people(), "other").unwrap().manifest.model, Some(ModelId::known("other")));
}
