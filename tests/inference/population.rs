//! People who do not exist, as near to one another as real ones are, so that galleries can be of any size. Made from the
//! embeddings of real photos, by means that have nothing in common with how a gallery predicts what strangers get.

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use rollcall::inference::{embeddings::similarity::normalise, gallery::Person};

/// How a person is made of real ones.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A real embedding, turned so far that its cosine with itself is this.
    Turned(f32),
    /// A mixture of three, and as much noise.
    Mixed,
    /// One, moved as another two differ.
    Moved,
}

/// Makes people and photos of them.
pub struct Population {
    real: Vec<Vec<f32>>,
    kind: Kind,
    random: ChaCha8Rng,
}

impl Population {
    /// Makes people of these embeddings, which are of unit length.
    pub fn new(real: Vec<Vec<f32>>, kind: Kind, seed: u64) -> Self {
        Self { real, kind, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Returns a gallery of so many people with so many photos each.
    pub fn gallery(&mut self, people: usize, photos: usize) -> Vec<Person> {
        let person = |i| Person::new(format!("person {i:05}"), self.photos(photos));
        (0..people).map(person).collect()
    }

    /// Returns photos of somebody new.
    pub fn photos(&mut self, count: usize) -> Vec<Vec<f32>> {
        let somebody = self.somebody();
        // Photos of one person have a similarity of some 0.66.
        (0..count).map(|_| self.turned(&somebody, 0.81)).collect()
    }

    fn somebody(&mut self) -> Vec<f32> {
        match self.kind {
            Kind::Turned(cosine) => {
                let real = self.one();
                self.turned(&real, cosine)
            }
            Kind::Mixed => {
                let weights = [(); 3].map(|()| self.random.random_range(0.1..1.0));
                let mixed = self.sum(weights);
                self.turned(&mixed, 0.7)
            }
            Kind::Moved => {
                let moved = self.sum([1.0, 1.0, -1.0]);
                self.turned(&moved, 0.7)
            }
        }
    }

    fn one(&mut self) -> Vec<f32> {
        let at = self.random.random_range(0..self.real.len());
        self.real[at].clone()
    }

    fn sum(&mut self, weights: [f32; 3]) -> Vec<f32> {
        let all = weights.map(|weight| (weight, self.one()));
        let mut sum: Vec<f32> =
            (0..all[0].1.len()).map(|i| all.iter().map(|(weight, one)| weight * one[i]).sum()).collect();
        // Twice the same one, less it, is this one; the difference of equal ones is nothing.
        if normalise(&mut sum) { sum } else { self.one() }
    }

    /// Returns a vector of unit length in a random direction whose cosine with another is nearly this.
    fn turned(&mut self, from: &[f32], cosine: f32) -> Vec<f32> {
        let mut noise: Vec<f32> = from.iter().map(|_| self.random.random_range(-1.0..1.0)).collect();
        assert!(normalise(&mut noise), "noise");
        let length = (1.0 / (cosine * cosine) - 1.0).sqrt();
        let mut turned: Vec<f32> = from.iter().zip(noise).map(|(one, noise)| one + length * noise).collect();
        assert!(normalise(&mut turned), "a direction");
        turned
    }
}
