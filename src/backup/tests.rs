use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::{
    archive::{ArchiveError, ArchiveWriter, Manifest, QUEUES, read, verify},
    *,
};
use crate::{
    cloud::{
        ObjectStore as _, Precondition,
        local::{LocalObjects, format::FORMAT, queued_jobs},
    },
    job::{Failure, FailureKind, JobId, Output},
    results::{ResultStore, Status},
    testing::World,
};

mod kept_photos;

fn manifest() -> Manifest {
    Manifest { format: FORMAT, program: "1.2.3".into(), created_ms: 7 }
}

/// Returns an archive with these files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ArchiveWriter::new(Vec::new(), &manifest()).expect("begun");
    for (name, content) in files {
        archive.add(name, *content, content.len() as u64, 1_000_000_000).expect("added");
    }
    archive.finish().expect("finished")
}

/// Returns the files in an archive that is whole.
fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let all = read(archive, archive.len() as u64, |name, content, _| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        assert!(files.insert(name.to_owned(), bytes).is_none(), "{name} is there twice");
        Ok(())
    });
    assert_eq!(all.expect("whole").format, FORMAT);
    files
}

/// Makes a right end for an archive without one, as somebody would who wants harm.
fn sealed(mut archive: Vec<u8>) -> Vec<u8> {
    let digest: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(65);
    header.set_mtime(0);
    tar.append_data(&mut header, "sha256", format!("{digest}\n").as_bytes()).expect("added");
    archive.extend(tar.into_inner().expect("ended"));
    archive
}

/// Returns an archive without an end whose last entry has this header, name and content.
fn with_entry(kind: EntryType, name: &[u8], content: &[u8]) -> Vec<u8> {
    let whole = archive(&[]);
    let mut out = whole[..whole.len() - 2048].to_vec();
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.set_link_name("/etc/passwd").expect("a name");
    }
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut tar = tar::Builder::new(&mut out);
    tar.append(&header, content).expect("added");
    std::mem::forget(tar); // dropping it would end the archive
    out
}

/// Tries to restore an archive into a folder that does not exist, and returns the error. Nothing may be left.
fn refused(archive: &[u8]) -> String {
    let place = tempfile::tempdir().expect("a temporary folder");
    let (file, folder) = (place.path().join("backup.tar"), place.path().join("data"));
    fs::write(&file, archive).expect("written");
    let error = restore(&file, &folder).map(|_| ()).expect_err("refused");
    let left: Vec<_> = fs::read_dir(place.path()).expect("a folder").map(|entry| entry.expect("one").path()).collect();
    assert_eq!(left, [file], "{error:#}");
    format!("{error:#}")
}

#[test]
fn an_archive_that_is_cut_off_or_changed_anywhere_is_refused() {
    let long = format!("objects/state/{}", "x/".repeat(100) + "y");
    let whole = archive(&[("audit.jsonl", b"{}\n"), ("objects/state/a", &[7; 600]), (&long, b"long")]);
    assert_eq!(files(&whole).len(), 3);
    for length in 0..whole.len() {
        assert!(verify(&whole[..length], length as u64).is_err(), "the first {length} bytes");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(verify(&*changed, changed.len() as u64).is_err(), "byte {at} changed");
    }
    let longer = [&*whole, &[0; 512]].concat();
    assert!(verify(&*longer, longer.len() as u64).is_err(), "something follows");
    refused(&whole[..whole.len() / 2]);
    refused(b"");
    refused(&[0; 4096]);
}

#[test]
fn only_plain_files_below_the_data_folder_are_restored() {
    assert_eq!(files(&sealed(with_entry(EntryType::Regular, b"objects/state/a", b"x"))).len(), 1, "it is well made");
    for name in [
        "../x",
        "/x",
        "x",
        "objects/state",
        "objects/../x",
        "objects/state/../../../x",
        "objects//x",
        "audit/../../x.jsonl",
        "format",
        "rollcall.sock",
    ] {
        let error = refused(&sealed(with_entry(EntryType::Regular, name.as_bytes(), b"x")));
        assert!(error.contains("is not part of a backup"), "{name}: {error}");
    }
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Fifo, EntryType::Char] {
        let error = refused(&sealed(with_entry(kind, b"objects/state/a", b"")));
        assert!(error.contains("is not a plain file"), "{kind:?}: {error}");
    }
    let twice =
        [with_entry(EntryType::Regular, b"audit.jsonl", b"x"), with_entry(EntryType::Regular, b"audit.jsonl", b"y")];
    let begin = with_entry(EntryType::Regular, b"", b"").len() - 512;
    refused(&sealed([&*twice[0], &twice[1][begin..]].concat()));
}

#[test]
fn a_backup_of_a_newer_release_is_refused() {
    let newer = Manifest { format: FORMAT + 1, ..manifest() };
    let archive = ArchiveWriter::new(Vec::new(), &newer).and_then(ArchiveWriter::finish).expect("written");
    assert!(matches!(verify(&*archive, archive.len() as u64), Err(ArchiveError::Newer(_))));
    let error = refused(&archive);
    assert!(
        error.ends_with("it was written by a newer Rollcall (format 3); this one knows up to 2: upgrade"),
        "{error}"
    );
}

#[test]
fn a_restore_replaces_nothing_and_its_files_are_private() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let (file, folder) = (place.path().join("backup.tar"), place.path().join("new/data"));
    fs::write(&file, archive(&[("objects/state/a/b", b"x"), ("audit.jsonl", b"{}\n")])).expect("written");
    restore(&file, &folder).expect("read").finish().expect("moved");
    assert_eq!(fs::read(folder.join("objects/state/a/b")).expect("a file"), b"x");
    let modified = fs::metadata(folder.join("audit.jsonl")).and_then(|meta| meta.modified()).expect("a time");
    assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).expect("later").as_secs(), 1_000_000_000);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    for name in ["", "objects", "objects/state", "objects/state/a"] {
        assert_eq!(mode(&folder.join(name)), 0o700, "{name}");
    }
    for name in ["objects/state/a/b", "audit.jsonl", "format"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }

    let again = restore(&file, &folder).map(|_| ()).expect_err("not empty").to_string();
    assert!(again.contains("is not empty"), "{again}");
    let (other, late) = (place.path().join("other"), place.path().join("late"));
    fs::create_dir(&other).expect("a folder");
    restore(&file, &other).expect("read").finish().expect("into an empty folder");
    let restored = restore(&file, &late).expect("read");
    fs::create_dir(&late).and_then(|()| fs::write(late.join("mine"), "x")).expect("written");
    assert!(restored.finish().expect_err("not empty any more").to_string().contains("is not empty"));
    assert_eq!(fs::read_dir(&late).expect("a folder").count(), 1);
    assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 4, "no temporary folder is left");
}

/// What is done when the header of an entry of this name is written.
type Then<'a> = (&'static str, Box<dyn FnOnce() + 'a>);

/// Keeps what is written, and does something in between, each thing once and in this order.
struct When<'a> {
    out: Vec<u8>,
    then: VecDeque<Then<'a>>,
}

impl Write for When<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_header =
            |(name, _): &mut Then<'_>| bytes.starts_with(name.as_bytes()) && bytes.get(name.len()) == Some(&0);
        if let Some((_, then)) = self.then.pop_front_if(is_header) {
            then();
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a backup, and does something meanwhile.
fn backup_while<'a>(world: &World, then: impl IntoIterator<Item = Then<'a>>) -> Vec<u8> {
    let backups = Backups::new(&world.settings, world.queues.clone());
    let mut out = When { out: Vec::new(), then: then.into_iter().collect() };
    let length = backups.write(&mut out).expect("written");
    assert!(out.then.is_empty(), "there is no {}", out.then[0].0);
    assert!(length <= out.out.len() as u64);
    out.out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_a_backup_is_made_is_not_lost() {
    let world = World::new().await;
    let output = Output::json(&"x", "x").expect("JSON");
    for id in 1..=2 {
        world.send(&world.job(id, "x")).await;
        world.results.store_pending(JobId(id), "a.txt".into()).await.expect("stored");
    }
    let given_up = world.job(3, "x");
    let letter = crate::wire::to_bytes(&given_up).expect("encoded");
    let failure = Failure::new(FailureKind::Internal, "given up");
    assert!(world.results.bury(&given_up, letter, &failure).await.expect("stored"));

    let runtime = tokio::runtime::Handle::current();
    let (archive, world) = tokio::task::spawn_blocking(move || {
        let change = || {
            runtime.block_on(async {
                // Job 1 is done, job 4 is accepted, and job 3 is sent again.
                let job = world.job(1, "x");
                world.results.store_output(&job, "x".into(), &output, "i-1").await.expect("stored");
                let received = world.requests.receive(10, std::time::Duration::ZERO).await.expect("received");
                world.requests.delete(vec![received[0].receipt.clone()]).await;
                world.send(&world.job(4, "x")).await;
                world.results.store_pending(JobId(4), "a.txt".into()).await.expect("stored");
                assert!(world.results.send_again(&*world.requests, JobId(3), "here").await.expect("sent"));
            });
        };
        let archive = backup_while(&world, [(QUEUES, Box::new(change) as _)]);
        (archive, world)
    })
    .await
    .expect("no panic");
    drop(world);

    let place = tempfile::tempdir().expect("a temporary folder");
    let (file, folder) = (place.path().join("backup.tar"), place.path().join("data"));
    fs::write(&file, archive).expect("written");
    restore(&file, &folder).expect("read").finish().expect("moved");
    let queued: HashSet<JobId> =
        queued_jobs(&folder).expect("read").iter().map(|group| group.parse().expect("an id")).collect();
    assert_eq!(queued, HashSet::from([JobId(1), JobId(2)]));
    let objects = std::sync::Arc::new(LocalObjects::open(&folder).expect("a store"));
    let results = ResultStore::new(objects, crate::testing::settings().store);
    let lost = results.fail_lost(&queued, "not in the backup").await.expect("stored");
    assert_eq!(lost, [(JobId(4), "a.txt".to_owned())]);
    for (id, expected) in [(1, Status::Done), (2, Status::Pending), (3, Status::Failed), (4, Status::Failed)] {
        let result = results.get(JobId(id)).await.expect("read").expect("a result");
        assert_eq!(result.status, expected, "job {id}");
    }
    assert_eq!(results.dead_letters().await.expect("read").len(), 1, "it is in no queue of the backup");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gallery_that_changes_while_a_backup_is_made_has_all_parts() {
    let world = World::new().await;
    let state = world.settings.store.state.clone();
    let put = async |key: &str, bytes: &'static str| {
        world.objects.put(&state, key, Bytes::from(bytes), Precondition::Always).await.expect("stored");
    };
    for (key, bytes) in [("galleries/a/parts/1", "one"), ("galleries/a/current", "1"), ("gallery/current", "whole")] {
        put(key, bytes).await;
    }
    put("galleries/a/parts/2", "two").await;
    let folder = world.settings.local.data_dir.join("objects").join(&state).join("galleries/a");
    let named = |key: &str| -> &'static str { format!("objects/{state}/galleries/a/{key}").leak() };
    let (part, current) = (named("parts/1"), named("current"));
    // A part is replaced by another one, and the manifest by the next version, as by a change of the gallery.
    let change = move |old: &str, new: &str, version: &str| {
        fs::write(folder.join("parts").join(new), new).expect("written");
        fs::write(folder.join("new"), version).expect("written");
        fs::rename(folder.join("new"), folder.join("current")).expect("renamed");
        fs::remove_file(folder.join("parts").join(old)).expect("removed");
    };
    let archive = tokio::task::spawn_blocking(move || {
        let before_it_is_read: Then<'_> = (part, Box::new(|| change("2", "3", "2")));
        let when_it_was_read: Then<'_> = (current, Box::new(|| change("3", "4", "3")));
        backup_while(&world, [before_it_is_read, when_it_was_read])
    });
    let files = files(&archive.await.expect("no panic"));
    let file = |key: &str| files.get(&format!("objects/{state}/{key}")).map(|bytes| &**bytes);
    assert_eq!(file("galleries/a/current"), Some(&b"2"[..]));
    assert_eq!((file("galleries/a/parts/1"), file("galleries/a/parts/3")), (Some(&b"one"[..]), Some(&b"3"[..])));
    assert_eq!(file("gallery/current"), Some(&b"whole"[..]));
}
