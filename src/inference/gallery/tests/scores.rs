//! What a gallery learns from the similarities of its own people.

use super::{world::*, *};
use crate::settings::Threshold;

const AUTO: Threshold = Threshold::MaxFalseAccept(0.003);

#[tokio::test]
async fn people_in_an_index_count_as_those_in_memory() {
    let mut world = World::new();
    let mut people = world.fill(50).await;
    let cache = world.cache();
    cache.refresh().await.unwrap();
    world.store().remove(&people.remove(7).name).await.unwrap().unwrap();
    let new = world.person("somebody new");
    world.store().add_people(vec![new.clone()], model()).await.unwrap();
    people.push(new);
    let (scores, exact) = (cache.refresh().await.unwrap().scores(), Gallery::new(1, &people, Some(model())).scores());

    assert_eq!(world.index_files(), 1);
    assert_eq!((scores.people, scores.photos), (exact.people, exact.photos));
    assert_eq!(exact.photos, people.iter().map(|person| person.embeddings.len()).sum::<usize>());
    for (sums, exact) in [(scores.different, exact.different), (scores.same, exact.same)] {
        assert_eq!(sums.count, exact.count);
        assert!(
            (sums.sum - exact.sum).abs() < 1e-3 && (sums.squares - exact.squares).abs() < 1e-3,
            "{sums:?}, {exact:?}"
        );
    }
    let nearest = |mut nearest: Vec<f32>| {
        nearest.sort_by(f32::total_cmp);
        nearest
    };
    let (found, exact) = (nearest(scores.nearest), nearest(exact.nearest));
    let same = found.iter().zip(&exact).filter(|(found, exact)| (*found - *exact).abs() < 1e-5).count();
    assert!(
        found.len() == exact.len() && same * 10 >= exact.len() * 9,
        "an index may miss a few: {found:?}, {exact:?}"
    );
    let everybody: Vec<_> = people.iter().flat_map(|p| p.embeddings.iter().map(move |e| (&p.name, e))).collect();
    let highest = everybody.iter().flat_map(|(name, a)| {
        everybody
            .iter()
            .filter(move |(other, _)| name != other)
            .map(move |(_, b)| a.iter().zip(b.iter()).map(|(a, b)| a * b).sum::<f32>())
    });
    assert!((highest.fold(-1.0, f32::max) - exact.last().unwrap()).abs() < 1e-5, "of two people, never of one");
}

#[test]
fn what_was_learned_is_kept_until_a_twentieth_of_the_photos_has_changed() {
    let mut world = World::new();
    let people: Vec<Person> = (0..120).map(|i| world.person(&format!("person {i:03}"))).collect();
    let gallery = |count: usize| Gallery::new(1, &people[..count], Some(model()));
    let first = gallery(100);
    let fresh = |count| gallery(count).threshold(AUTO);
    assert_ne!(fresh(101), first.threshold(AUTO), "another gallery has another threshold");
    assert_eq!(gallery(101).learned_from(&first).threshold(AUTO), first.threshold(AUTO));
    assert_eq!(gallery(120).learned_from(&first).threshold(AUTO), fresh(120));
    assert_eq!(gallery(101).learned_from(&gallery(100)).threshold(AUTO), fresh(101), "nothing was learned");
    assert_eq!(first.threshold(Threshold::Similarity(0.4)), 0.4);
}
