//! Checkpoints from a model hub: a server on the loopback interface plays it, well and badly.

mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use interp_core::Error;
use interp_core::checkpoint::{Checkpoint, CheckpointRef};
use interp_core::hub::HubOptions;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use server::{Fault, REPO, Server, World, sha256};

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";
const SINGLE: &str = "model.safetensors";

fn files(d_vocab: usize) -> BTreeMap<String, Vec<u8>> {
    let config = json!({"model_type": "llama", "hidden_size": 4, "num_attention_heads": 2, "num_hidden_layers": 1,
        "vocab_size": d_vocab});
    let numbers = vec![0; 4 * 500];
    let view = TensorView::new(Dtype::F32, vec![500], &numbers).unwrap();
    BTreeMap::from([
        ("config.json".into(), config.to_string().into_bytes()),
        ("tokenizer.json".into(), b"{}".to_vec()),
        (SINGLE.into(), safetensors::serialize([("w", view)], None).unwrap()),
    ])
}

/// `main` at the second of two commits, `v1` at the first.
fn world() -> World {
    World {
        commits: BTreeMap::from([(FIRST.into(), files(10)), (SECOND.into(), files(20))]),
        refs: BTreeMap::from([("main".into(), SECOND.into()), ("v1".into(), FIRST.into())]),
        ..World::default()
    }
}

/// A server and an empty cache.
struct Setup {
    server: Server,
    cache: tempfile::TempDir,
    options: HubOptions,
}

impl Setup {
    fn new(world: World) -> Self {
        let server = Server::start(world);
        let cache = tempfile::tempdir().unwrap();
        let mut options = HubOptions::from_vars(|_| None);
        options.endpoint = server.endpoint.clone();
        options.cache_dir = cache.path().into();
        Self { server, cache, options }
    }

    fn open(&self, reference: &str) -> Result<Checkpoint, Error> {
        Checkpoint::open(&reference.parse::<CheckpointRef>().unwrap(), &self.options)
    }

    /// The error as a user sees it, with the server's address as `HUB` and the cache as `CACHE`.
    fn refused(&self, reference: &str) -> String {
        let error = self.open(reference).unwrap_err();
        let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        let cache = self.cache.path().display().to_string();
        format!("{error}{hint}").replace(&self.server.endpoint, "HUB").replace(&cache, "CACHE")
    }

    fn blobs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.cache.path().join("models--org--tiny/blobs")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".lock")).collect();
        names.sort();
        names
    }
}

#[test]
fn a_repository_is_downloaded_once_into_the_shared_cache() {
    let setup = Setup::new(world());
    let checkpoint = setup.open(REPO).unwrap();
    assert_eq!((checkpoint.name(), checkpoint.revision()), ("tiny", Some(SECOND)));
    assert_eq!(checkpoint.config().d_vocab, 20);
    let snapshot = setup.cache.path().join("models--org--tiny/snapshots").join(SECOND);
    assert_eq!(checkpoint.dir(), snapshot);
    assert_eq!(checkpoint.file("tokenizer.json").unwrap(), Some(snapshot.join("tokenizer.json")));
    assert_eq!(checkpoint.file("chat_template.jinja").unwrap(), None);
    // The weights lie under their hash, which a run's record can use as it is.
    let blob = snapshot.join(SINGLE).canonicalize().unwrap();
    assert_eq!(blob.file_name().unwrap().to_str().unwrap(), sha256(&files(20)[SINGLE]));

    setup.server.take_log();
    setup.open(REPO).unwrap();
    assert_eq!(setup.server.take_log(), [format!("/api/models/{REPO}/revision/main")]);
}

#[test]
fn a_revision_is_pinned_by_tag_and_by_commit() {
    let mut setup = Setup::new(world());
    for revision in ["v1", FIRST] {
        let checkpoint = setup.open(&format!("{REPO}@{revision}")).unwrap();
        assert_eq!((checkpoint.revision(), checkpoint.config().d_vocab), (Some(FIRST), 10));
    }
    assert_eq!(
        setup.refused("org/tiny@v9"),
        "hub repository org/tiny@v9: has no revision `v9`\nhint: give a branch, a tag or a commit of the repository"
    );
    setup.options.offline = true;
    for revision in ["v1", FIRST] {
        assert_eq!(setup.open(&format!("{REPO}@{revision}")).unwrap().revision(), Some(FIRST));
    }
    assert!(setup.open(REPO).is_err(), "main was never downloaded");
}

#[test]
fn the_token_goes_with_every_request_and_nothing_without_one() {
    let mut setup = Setup::new(world());
    setup.open(&format!("{REPO}@v1")).unwrap();
    assert!(setup.server.take_log().iter().all(|line| !line.contains("Bearer")));
    setup.options.token = Some("secret".into());
    setup.open(REPO).unwrap();
    let log = setup.server.take_log();
    assert!(log.len() > 3 && log.iter().all(|line| line.ends_with(" Bearer secret")), "{log:?}");
}

#[test]
fn downloads_report_their_progress() {
    let mut setup = Setup::new(world());
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let writer = Arc::clone(&seen);
    setup.options.on_download = Some(Arc::new(move |name: &str, done, size| {
        writer.lock().unwrap().insert(name.to_owned(), (done, size));
    }));
    setup.open(REPO).unwrap();
    let size = files(20)[SINGLE].len() as u64;
    assert_eq!(seen.lock().unwrap()[SINGLE], (size, size));
}

#[test]
fn a_missing_repository_is_refused() {
    let setup = Setup::new(world());
    let expected = "does not exist on HUB\n\
         hint: check its spelling (owner/name); if a folder was meant, it is not there; if it is private, set HF_TOKEN";
    assert_eq!(setup.refused("org/none"), format!("hub repository org/none: {expected}"));
    // To those without a token the real hub says 401 of a repository that does not exist.
    setup.server.world.lock().unwrap().refuse_listing = Some((401, "RepoNotFound"));
    assert_eq!(
        setup.refused(REPO),
        "hub repository org/tiny: the repository may not be read without a token (401)\n\
         hint: if the name is right, accept the licence at HUB/org/tiny and set HF_TOKEN"
    );
}

#[test]
fn missing_files_are_refused() {
    let mut world = world();
    world.commits.get_mut(SECOND).unwrap().remove(SINGLE);
    world.commits.get_mut(SECOND).unwrap().insert("pytorch_model.bin".into(), Vec::new());
    world.commits.get_mut(FIRST).unwrap().remove("config.json");
    let setup = Setup::new(world);
    assert_eq!(
        setup.refused(REPO),
        "hub repository org/tiny: has its weights only as a pickle, pytorch_model.bin, which can run code when it is \
         opened\nhint: convert once, in Python: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)"
    );
    assert_eq!(
        setup.refused("org/tiny@v1"),
        "hub repository org/tiny@v1: has no config.json\n\
         hint: a checkpoint is a folder as transformers' save_pretrained writes it"
    );
    // Listed but not there.
    setup.server.world.lock().unwrap().refuse_files = Some(404);
    std::fs::remove_dir_all(setup.cache.path().join("models--org--tiny")).unwrap();
    assert_eq!(setup.refused(REPO), "hub repository org/tiny: has no file config.json\nhint: check the revision");
}

#[test]
fn a_gated_repository_is_refused_with_the_way_in() {
    let mut setup = Setup::new(World { refuse_files: Some(401), ..world() });
    assert_eq!(
        setup.refused(REPO),
        "hub repository org/tiny: config.json may not be read without a token (401)\n\
         hint: if the name is right, accept the licence at HUB/org/tiny and set HF_TOKEN"
    );
    setup.options.token = Some("expired".into());
    assert_eq!(
        setup.refused(REPO),
        "hub repository org/tiny: config.json may not be read with this token (401)\nhint: set HF_TOKEN to a valid token"
    );
    setup.server.world.lock().unwrap().refuse_files = Some(403);
    assert_eq!(
        setup.refused(REPO),
        "hub repository org/tiny: config.json may not be read by this account (403)\n\
         hint: accept the licence at HUB/org/tiny and set HF_TOKEN to a token that may read gated repositories"
    );
    setup.server.world.lock().unwrap().refuse_files = Some(503);
    assert_eq!(setup.refused(REPO), "hub repository org/tiny: HUB answered 503 for config.json\nhint: try again later");
}

#[test]
fn a_download_cut_off_once_is_resumed() {
    let setup = Setup::new(World { faults: vec![Fault::Cut(700)], ..world() });
    let checkpoint = setup.open(REPO).unwrap();
    assert_eq!(std::fs::read(checkpoint.dir().join(SINGLE)).unwrap(), files(20)[SINGLE]);
    let log = setup.server.take_log();
    assert!(log.iter().any(|line| line.ends_with(&format!("{SINGLE} bytes=700-"))), "{log:?}");
}

#[test]
fn a_download_cut_off_for_good_leaves_nothing_that_looks_complete() {
    let setup = Setup::new(World { faults: [vec![Fault::Cut(700)], vec![Fault::Cut(0); 3]].concat(), ..world() });
    assert_eq!(
        setup.refused(REPO),
        "hub repository org/tiny: download of model.safetensors broke off: Peer disconnected\n\
         hint: run this again: it resumes where it stopped"
    );
    let sha = sha256(&files(20)[SINGLE]);
    assert!(setup.blobs().contains(&format!("{sha}.part")) && !setup.blobs().contains(&sha));
    setup.server.take_log();
    let checkpoint = setup.open(REPO).unwrap();
    assert_eq!(std::fs::read(checkpoint.dir().join(SINGLE)).unwrap(), files(20)[SINGLE]);
    let log = setup.server.take_log();
    assert!(log.iter().any(|line| line.ends_with(&format!("{SINGLE} bytes=700-"))), "{log:?}");
}

#[test]
fn a_download_of_wrong_length_or_content_is_not_kept() {
    for (fault, cause) in [
        (Fault::Short(700), format!("700 of {} bytes arrived", files(20)[SINGLE].len())),
        (Fault::Wrong, "what arrived does not have the hash that the hub announced".into()),
    ] {
        let setup = Setup::new(World { faults: vec![fault; 3], ..world() });
        assert_eq!(
            setup.refused(REPO),
            format!(
                "hub repository org/tiny: download of model.safetensors broke off: {cause}\n\
                 hint: run this again: it resumes where it stopped"
            )
        );
        assert!(!setup.blobs().contains(&sha256(&files(20)[SINGLE])));
        let checkpoint = setup.open(REPO).unwrap();
        assert_eq!(std::fs::read(checkpoint.dir().join(SINGLE)).unwrap(), files(20)[SINGLE]);
    }
}

#[test]
fn a_part_file_that_cannot_be_resumed_is_begun_again() {
    let whole = files(20).remove(SINGLE).unwrap();
    for length in [whole.len(), whole.len() + 1] {
        let setup = Setup::new(world());
        let blobs = setup.cache.path().join("models--org--tiny/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(format!("{}.part", sha256(&whole))), vec![b'x'; length]).unwrap();
        let checkpoint = setup.open(REPO).unwrap();
        assert_eq!(std::fs::read(checkpoint.dir().join(SINGLE)).unwrap(), whole);
    }
}

#[test]
fn offline_uses_the_cache_and_makes_no_request() {
    let mut setup = Setup::new(world());
    setup.options.offline = true;
    assert_eq!(
        setup.refused(REPO),
        "hub repository org/tiny: is not in the cache CACHE, and this run is offline\n\
         hint: run once without --offline or HF_HUB_OFFLINE to download it"
    );
    setup.options.offline = false;
    setup.open(REPO).unwrap();
    setup.server.take_log();

    setup.options.offline = true;
    let checkpoint = setup.open(REPO).unwrap();
    assert_eq!(checkpoint.revision(), Some(SECOND));
    assert!(checkpoint.file("tokenizer.json").unwrap().is_some());
    std::fs::remove_file(checkpoint.dir().join(SINGLE)).unwrap();
    assert_eq!(
        setup.refused(REPO),
        format!(
            "hub repository org/tiny: has neither model.safetensors nor model.safetensors.index.json in the cache \
             CACHE/models--org--tiny/snapshots/{SECOND}\nhint: run once without --offline or HF_HUB_OFFLINE to download the rest"
        )
    );
    assert_eq!(setup.server.take_log(), [""; 0]);
}

#[test]
fn a_hub_that_cannot_be_reached_is_named_with_the_way_round_it() {
    let mut setup = Setup::new(world());
    setup.open(REPO).unwrap();
    // A port that was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    setup.options.endpoint = format!("http://{closed}");
    let expected = format!("cannot reach http://{closed}: Connection refused (os error 111)\nhint: ");
    assert_eq!(
        setup.refused(REPO),
        format!("hub repository org/tiny: {expected}set HF_HUB_OFFLINE=1 to use what is in the cache")
    );
    assert_eq!(
        setup.refused("org/other"),
        format!("hub repository org/other: {expected}check the network, HF_ENDPOINT and the proxy settings")
    );
}

#[test]
fn something_that_is_no_hub_is_recognised() {
    let mut setup = Setup::new(world());
    // The listing of a path that the server answers with a file.
    setup.options.endpoint = format!("{}/cdn/{SECOND}/tokenizer.json?", setup.server.endpoint);
    let error = setup.open(REPO).unwrap_err();
    assert!(error.to_string().ends_with("answered with something other than a repository"), "{error}");
    assert!(!Path::new(&setup.options.cache_dir).join("models--org--tiny").exists());
}
