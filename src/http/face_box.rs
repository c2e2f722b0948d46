//! Where in a photo the face is that is meant.

use std::str::FromStr;

use super::error::Problem;
use crate::recognition::{Face, overlap};

/// Smallest intersection over union of a box and the face that it means. Boxes of faces that are found overlap less with one
/// another (`recognition.detector_nms`), so at most one face is meant unless that setting was raised.
const MIN_OVERLAP: f32 = 0.5;
/// Field of a form with a box.
const FIELD: &str = "box";

/// A box of a face, as a recognition returns it: `x,y,width,height` in pixels of the upright photo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FaceBox([f32; 4]);

impl FromStr for FaceBox {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<f32> = text.split(',').map_while(|number| number.trim().parse().ok()).collect();
        match <[f32; 4]>::try_from(numbers) {
            Ok(bbox @ [_, _, width, height])
                if text.split(',').count() == 4
                    && bbox.iter().all(|number| number.is_finite())
                    && width > 0.0
                    && height > 0.0 =>
            {
                Ok(Self(bbox))
            }
            _ => Err(format!("the box {text:?} is not x,y,width,height in pixels, as in `bbox` of a recognition")),
        }
    }
}

impl FaceBox {
    /// Reads the box of a form; `None` if the form has none.
    ///
    /// # Errors
    /// It is not a box, or the form has more than one photo.
    pub fn of_form(texts: &[(String, String)], photos: usize) -> Result<Option<Self>, Problem> {
        let Some((_, text)) = texts.iter().find(|(field, _)| field == FIELD) else { return Ok(None) };
        if photos != 1 {
            return Err(Problem::bad_request(format!("a `{FIELD}` is of one photo, and the form has {photos}")));
        }
        text.parse().map(Some).map_err(Problem::bad_request)
    }

    /// Returns the position of the face that is meant.
    ///
    /// # Errors
    /// There is none: the message says where the faces are.
    pub fn find(self, faces: &[Face]) -> Result<usize, String> {
        let overlaps = faces.iter().map(|face| overlap(&face.bbox, &self.0)).enumerate();
        let found = overlaps.filter(|(_, overlap)| *overlap >= MIN_OVERLAP).max_by(|(_, a), (_, b)| a.total_cmp(b));
        let none = || match faces {
            [] => "no face was found in it".to_owned(),
            _ => {
                let boxes: Vec<String> = faces.iter().map(|face| described(&face.bbox)).collect();
                format!("no face is at {}; its faces are at {}", described(&self.0), boxes.join(" and at "))
            }
        };
        found.map(|(at, _)| at).ok_or_else(none)
    }
}

fn described([x, y, width, height]: &[f32; 4]) -> String {
    format!("{x:.0},{y:.0},{width:.0},{height:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(bbox: [f32; 4]) -> Face {
        Face {
            bbox,
            landmarks: Default::default(),
            score: 1.0,
            name: "unknown".into(),
            similarity: None,
            embedding: None,
        }
    }

    #[test]
    fn a_box_is_four_numbers_with_an_area() {
        assert_eq!("1,2.5,30,40".parse(), Ok(FaceBox([1.0, 2.5, 30.0, 40.0])));
        assert_eq!("-3, 0, 8, 9".parse(), Ok(FaceBox([-3.0, 0.0, 8.0, 9.0])), "a face may begin outside of the photo");
        for bad in ["", "1,2,3", "1,2,3,4,5", "1,2,0,4", "1,2,3,-4", "1,2,inf,4", "NaN,2,3,4", "a,2,3,4", "1,2,3,4,x"] {
            assert!(bad.parse::<FaceBox>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_face_that_overlaps_most_is_meant_and_none_that_overlaps_little() {
        let faces = [face([0.0, 0.0, 100.0, 100.0]), face([150.0, 0.0, 60.0, 60.0])];
        let find = |text: &str| text.parse::<FaceBox>().expect("a box").find(&faces);
        assert_eq!(find("150,0,60,60"), Ok(1));
        assert_eq!(find("5,5,100,100"), Ok(0));
        assert_eq!(find("148,2,70,60"), Ok(1));
        // A corner, the face and much around it, and nothing.
        for missed in ["0,0,60,60", "0,0,160,160", "300,300,50,50"] {
            let why = find(missed).expect_err(missed);
            assert!(why.ends_with("its faces are at 0,0,100,100 and at 150,0,60,60"), "{why}");
        }
        let none = FaceBox([0.0, 0.0, 9.0, 9.0]).find(&[]);
        assert_eq!(none, Err("no face was found in it".to_owned()));
    }

    #[test]
    fn a_form_has_a_box_for_one_photo_only() {
        let texts = |text: &str| vec![("name".to_owned(), "Ada".to_owned()), ("box".to_owned(), text.to_owned())];
        let of = |texts: &[(String, String)], photos| FaceBox::of_form(texts, photos).map_err(|problem| problem.line());
        assert_eq!(of(&texts("1,2,3,4"), 1), Ok(Some(FaceBox([1.0, 2.0, 3.0, 4.0]))));
        assert_eq!(of(&texts("1,2,3,4")[..1], 2), Ok(None));
        assert!(of(&texts("1,2,3,4"), 2).is_err_and(|why| why.contains("one photo")));
        assert!(of(&texts("here"), 1).is_err_and(|why| why.contains("x,y,width,height")));
    }
}
