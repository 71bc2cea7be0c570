//! The sets of a cumulative ablation on published scores.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use interp_core::export::npy;
use interp_core::stats::{CellSet, Cumulative, ranking};

/// The control that goes with the retrieval scores of Llama-3.1-70B at k = 10, where the shared folder is there.
#[test]
fn the_control_of_the_published_ranking() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("INTERP_SHARED").map_or(root, PathBuf::from);
    let file = shared.join("data/yang-llama-3.1-70b/retrieval_head.causal_scores.npy");
    if !file.is_file() {
        println!("skipped: no {}", file.display());
        return;
    }
    let (_, scores) = npy::read(&file).unwrap();
    let plan = Cumulative { step: Some(10), max: 10, draws: 0, random_step: None, seed: 0 };
    let sets = plan.sets(&ranking(&scores), |cell| cell / 64).unwrap();
    let heads = |set: &CellSet| set.cells.iter().map(|cell| (cell / 64, cell % 64)).collect::<BTreeSet<_>>();
    let published = [(39, 41), (39, 42), (54, 8), (35, 42), (35, 16), (56, 23), (52, 36), (42, 28), (53, 5), (73, 61)];
    assert_eq!(heads(&sets[1]), BTreeSet::from(published));
    assert_eq!(sets[0].cells[..3], [39 * 64 + 40, 54 * 64 + 15, 39 * 64 + 47]);
}
