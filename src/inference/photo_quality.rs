//! Whether a photo is a good one to know a person by, as far as the places of its faces tell.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use crate::recognition::Face;

/// Distance of the eyes, in pixels, below which a face is small. Measured with SFace on 200 probes of LFW, of 40 people with
/// three photos each, that were scaled down: with 20 pixels, 199 were named, with 15, 198, with 12, 193, and with 9, 181.
const SMALL: f32 = 20.0;
/// Distance of the nose from the middle between the eyes, along their line and in distances of the eyes, above which a face is
/// turned away: the nose is then not between the eyes. Up to 0.4, the same probes had the same similarities (0.66 to 0.74)
/// whatever the distance.
const TURNED: f32 = 0.5;

/// Why a photo may not be a good one to know a person by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PhotoWarning {
    /// The face has few pixels.
    SmallFace,
    /// The face looks to the side.
    TurnedFace,
    /// There are several faces, and the largest may not be the person's.
    SeveralFaces,
}

impl fmt::Display for PhotoWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SmallFace => "the face is small",
            Self::TurnedFace => "the face is turned away",
            Self::SeveralFaces => "there are several faces, of which the largest is used",
        })
    }
}

/// Returns the warnings about a photo of which a face is used: that of `faces` at a position, or with `None` the first.
pub fn warnings(faces: &[Face], chosen: Option<usize>) -> Vec<PhotoWarning> {
    let Some(face) = faces.get(chosen.unwrap_or(0)) else { return Vec::new() };
    let [right_eye, left_eye, nose, ..] = face.landmarks;
    let line = [left_eye[0] - right_eye[0], left_eye[1] - right_eye[1]];
    let eyes = line[0].hypot(line[1]);
    let middle = [(left_eye[0] + right_eye[0]) / 2.0, (left_eye[1] + right_eye[1]) / 2.0];
    let along = (nose[0] - middle[0]) * line[0] + (nose[1] - middle[1]) * line[1];
    let small = (eyes < SMALL).then_some(PhotoWarning::SmallFace);
    // Both sides are multiplied by the distance of the eyes twice, which may be zero.
    let turned = (along.abs() > TURNED * eyes * eyes).then_some(PhotoWarning::TurnedFace);
    let several = (chosen.is_none() && faces.len() > 1).then_some(PhotoWarning::SeveralFaces);
    small.into_iter().chain(turned).chain(several).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a face by its eyes and its nose.
    fn face(right_eye: [f32; 2], left_eye: [f32; 2], nose: [f32; 2]) -> Face {
        Face {
            bbox: Default::default(),
            landmarks: [right_eye, left_eye, nose, [0.0; 2], [0.0; 2]],
            score: 1.0,
            name: "unknown".into(),
            similarity: None,
            embedding: None,
        }
    }

    #[test]
    fn small_and_turned_faces_and_several_are_warned_of() {
        let good = face([100.0, 100.0], [140.0, 100.0], [121.0, 125.0]);
        let small = face([100.0, 100.0], [115.0, 112.0], [104.0, 117.0]);
        let tilted = face([100.0, 100.0], [100.0, 140.0], [75.0, 119.0]);
        let turned = face([100.0, 100.0], [130.0, 100.0], [133.0, 120.0]);
        for (face, expected) in [
            (&good, vec![]),
            (&small, vec![PhotoWarning::SmallFace]),
            (&tilted, vec![]),
            (&turned, vec![PhotoWarning::TurnedFace]),
            (&face([7.0; 2], [7.0; 2], [7.0; 2]), vec![PhotoWarning::SmallFace]),
        ] {
            assert_eq!(warnings(std::slice::from_ref(face), None), expected, "{face:?}");
        }
        let two = [good, turned];
        assert_eq!(warnings(&two, None), [PhotoWarning::SeveralFaces]);
        assert_eq!([0, 1].map(|chosen| warnings(&two, Some(chosen))), [vec![], vec![PhotoWarning::TurnedFace]]);
        assert_eq!(warnings(&[], None), []);
    }
}
