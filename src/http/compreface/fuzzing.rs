//! What clients of CompreFace send: a fuzz target.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    embeddings::{compared, receive_embeddings, receive_verification},
    examples::receive_ids,
    images::{FILE, SOURCE, TARGET, receive_images},
    params::{Params, check_candidates},
    refusal::Refusal,
    subjects::receive_subject,
};
use crate::{
    http::{
        fuzzing::{MAX_UPLOAD, refused, request as request_of, with_web_tier},
        upload::ReceivedFile,
    },
    inference::embeddings::similarity::normalise,
};

/// Receives a request. The first byte says what is asked for, the second how the body is divided; then come two lines with
/// the query and Content-Type, and the body.
pub(crate) fn request(input: &[u8]) {
    let [kind, division, rest @ ..] = input else { return };
    let mut lines = rest.splitn(3, |byte| *byte == b'\n');
    let [query, content_type, body] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    let params = checked(Params::parse(&String::from_utf8_lossy(query)));
    with_web_tier(async |web| {
        let (req, payload) = request_of(content_type, b"", body, *division).await;
        match kind % 6 {
            0 => drop(checked(receive_images(&req, payload, web, [FILE]).await).map(images)),
            1 => drop(checked(receive_images(&req, payload, web, [SOURCE, TARGET]).await).map(images)),
            2 => {
                if let Some((embeddings, _admission)) = checked(receive_embeddings(&req, payload, web).await) {
                    list(&embeddings);
                    params.and_then(|params| checked(check_candidates(embeddings.len(), &params, "embeddings")));
                }
            }
            3 => verification(checked(receive_verification(&req, payload, web).await).map(|(a, b, _)| (a, b))),
            4 => {
                if let Some(subject) = checked(receive_subject(&req, payload, web).await) {
                    assert!(!subject.trim().is_empty() && subject.len() <= body.len(), "{subject:?}");
                }
            }
            _ => drop(checked(receive_ids(&req, payload, web).await)),
        }
    });
}

fn checked<T>(result: Result<T, Refusal>) -> Option<T> {
    result.inspect_err(|refusal| refused(refusal.problem())).ok()
}

fn images<const N: usize>(images: [ReceivedFile; N]) {
    let bytes: usize = images.iter().map(|image| image.bytes.len()).sum();
    assert!(bytes > 0 && bytes <= MAX_UPLOAD && images.iter().all(|image| !image.bytes.is_empty()));
}

/// What is sent to workers are numbers, of which a unit vector can be made.
fn list(embeddings: &[Vec<f32>]) {
    let sent = serde_json::to_vec(embeddings).expect("a list");
    let received: Vec<Vec<f32>> = serde_json::from_slice(&sent).expect("numbers");
    assert!(!received.is_empty() && received == embeddings);
    assert!(received.iter().all(|embedding| normalise(&mut embedding.clone())));
}

fn verification(received: Option<(Vec<f32>, Vec<Vec<f32>>)>) {
    let Some((mut source, targets)) = received else { return };
    list(&targets);
    assert!(normalise(&mut source));
    if let Some(result) = checked(compared(&source, &targets)) {
        let result = result["result"].as_array().expect("a list");
        assert_eq!(result.len(), targets.len());
        for one in result {
            let similarity = one["similarity"].as_f64().expect("a number");
            assert!((0.0..=1.0).contains(&similarity), "{one}");
        }
    }
}

/// Returns requests of each kind, and mistakes.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    /// One pixel.
    const PNG: &[u8] = b"\x89PNG\x0d\x0a\x1a\x0a\x00\x00\x00\x0dIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU\x00\x00\x00\x0aIDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82";
    const ID: &str = "\"6b135f5b-a365-4522-b1f1-4c9ac2dd0728\"";
    let png = STANDARD.encode(PNG);
    let of = |kind: char, query: &str, body: &str| format!("{kind}\0{query}\napplication/json\n{body}").into_bytes();
    let form = |fields: &[&str]| {
        let mut body = b"\0\x09limit=1\nmultipart/form-data; boundary=x\n".to_vec();
        for field in fields {
            body.extend(
                format!("--x\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"a.png\"\r\n\r\n").bytes(),
            );
            body.extend(PNG.iter().chain(b"\r\n"));
        }
        [&body[..], b"--x--\r\n"].concat()
    };
    let mut of_two = form(&[SOURCE, TARGET]);
    of_two[0] = 1;
    vec![
        ("form", form(&[FILE])),
        ("form-of-two", of_two),
        ("form-without-image", form(&["other"])),
        (
            "image",
            of(
                '\0',
                "limit=2&det_prob_threshold=0.8&face_plugins=landmarks,calculator",
                &format!("{{\"file\":\"{png}\"}}"),
            ),
        ),
        ("images", of('\x01', "status=true", &format!("{{\"source_image\":\"{png}\",\"target_image\":\"{png}\"}}"))),
        (
            "image-escaped",
            of(
                '\0',
                "prediction_count=3?limit=1",
                &format!("{{\"x\":[[{{}}]],\"file\":\"{}\"}}", png.replace('/', "\\/")),
            ),
        ),
        ("image-not-base64", of('\0', "detect_faces=false", "{\"file\":\"data:image/png;base64,AAEC\"}")),
        ("embeddings", of('\x02', "prediction_count=9", "{\"embeddings\":[[0.6,-0.8],[1,2e1]]}")),
        ("embeddings-empty", of('\x02', "", "{\"embeddings\":[[],[],[],[]]}")),
        ("embeddings-overflow", of('\x02', "", "{\"embeddings\":[[1e39,1e-39]]}")),
        ("verification", of('\x03', "", "{\"source\":[0.6,-0.8],\"targets\":[[0.6,-0.8],[-1,0.1]]}")),
        ("subject", of('\x04', "", "{\"subject\":\"Zo\u{eb} \\u0041\"}")),
        ("ids", of('\x05', "page=1&size=20&subject=Ada+L", &format!("[{ID},{ID}]"))),
    ]
}
