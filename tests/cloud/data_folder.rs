//! Who can read what Rollcall stores on one machine.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::stat::{Mode, umask};
use rollcall::{
    cloud::{Message, NewObject, Precondition, QueueSpec, local::LocalCloud},
    settings::{Layers, Machine, Settings},
};

/// Returns the permissions of a folder, and of all files and folders below it.
fn permissions(folder: &Path) -> HashMap<PathBuf, u32> {
    let mut found = HashMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        found.insert(folder.clone(), fs::metadata(&folder).expect("a folder").permissions().mode() & 0o777);
        for entry in fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let metadata = entry.metadata().expect("metadata");
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path(), metadata.permissions().mode() & 0o777);
            }
        }
    }
    found
}

async fn use_everything(settings: &Settings) -> LocalCloud {
    let cloud = LocalCloud::open(settings, None).await.expect("opened");
    let spec = QueueSpec {
        name: "jobs".into(),
        fifo: false,
        visibility: Duration::from_secs(30),
        max_receives: 5,
        dead_letter: None,
        durable: true,
    };
    let queue = cloud.queues.create(spec).await.expect("a queue");
    assert_eq!(queue.send(vec![Message { body: "photo".into(), ..Message::default() }]).await, [Ok(())]);
    let objects = &cloud.objects;
    objects.put("input", "id/photo.jpg", "photo".into(), Precondition::Always).await.expect("written");
    drop(objects.put("state", "lease", "holder".into(), Precondition::Absent).await); // the second time it exists
    let buffered = NewObject {
        bucket: "output".into(),
        key: "deep/er/label".into(),
        bytes: "name".into(),
        when: Precondition::Always,
    };
    objects.put_buffered(vec![buffered]).await.expect("written");
    cloud
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_folder_is_readable_by_its_owner_only() {
    umask(Mode::empty()); // nothing is private by accident
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("not/there/yet");
    let mut settings =
        Settings::from_layers(&Layers::load(None, HashMap::new()).expect("the defaults"), Machine::with_cores(1))
            .expect("valid");
    settings.local.data_dir = data.clone();

    let cloud = use_everything(&settings).await;
    let found = permissions(&data);
    let named = |name: &str| found.keys().any(|path| path.ends_with(name));
    for name in ["queues.redb", "rollcall.sock", "id/photo.jpg", "deep/er/label", "state/lease", "locks", "unfinished"]
    {
        assert!(named(name), "{name} is missing in {found:?}");
    }
    let private = |path: &Path, mode: u32| mode == if path.is_dir() { 0o700 } else { 0o600 };
    let open: Vec<_> = found.iter().filter(|(path, mode)| !private(path, **mode)).collect();
    assert!(open.is_empty(), "others can read {open:?}");
    cloud.close().await;

    // A file that an earlier version has written.
    fs::set_permissions(data.join("queues.redb"), fs::Permissions::from_mode(0o644)).expect("ours");
    let cloud = use_everything(&settings).await;
    let open: Vec<_> = permissions(&data).into_iter().filter(|(path, mode)| !private(path, *mode)).collect();
    assert!(open.is_empty(), "others can still read {open:?}");
    cloud.close().await;
}

#[tokio::test]
async fn a_folder_that_others_can_read_or_write_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut settings =
        Settings::from_layers(&Layers::load(None, HashMap::new()).expect("the defaults"), Machine::with_cores(1))
            .expect("valid");
    settings.local.data_dir = folder.path().to_owned();
    fs::write(folder.path().join("somebody's"), "").expect("written");
    for mode in [0o755, 0o750, 0o707, 0o770, 0o720, 0o1777] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("ours");
        let error = LocalCloud::open(&settings, None).await.err().expect("refused");
        let error = format!("{error:#}");
        assert!(error.contains(&format!("chmod 700 {}", folder.path().display())), "{error}");
        assert_eq!(error.lines().count(), 1);
        let now = fs::metadata(folder.path()).expect("a folder").permissions().mode();
        assert_eq!(now & 0o7777, mode, "it is not changed");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is created in it");
    }
    // An empty one that others can only read was made for this purpose.
    fs::remove_file(folder.path().join("somebody's")).expect("ours");
    for (mode, refused) in [(0o733, true), (0o755, false)] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("ours");
        match LocalCloud::open(&settings, None).await {
            Err(_) => assert!(refused, "{mode:o}"),
            Ok(cloud) => {
                assert!(!refused, "{mode:o}");
                cloud.close().await;
            }
        }
    }
    let mode = fs::metadata(folder.path()).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}
