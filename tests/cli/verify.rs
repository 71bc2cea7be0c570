//! A folder can be made again from its own run.json, and `interp verify` tells whether its numbers are those of its inputs.

use super::{Place, alter, done};

#[test]
fn a_run_is_repeated_from_its_run_json_to_the_bit() {
    let place = Place::new();
    assert_eq!(place.sweep(&["--edit", "noise:0.5", "--metric", "logit-diff,kl", "--seed", "3"]), done("out\n"));
    assert_eq!(place.sweep(&["--spec", "out/run.json", "--out", "again"]), done("again\n"));
    let (one, two) = (place.out("out"), place.out("again"));
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    one.iter().for_each(|(name, bytes)| assert!(bytes == &two[name], "{name} differs"));
}

#[test]
fn a_sweep_can_check_itself() {
    let place = Place::new();
    let ended = place.sweep(&["--verify", "3"]);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.lines().count()), (Some(0), "out\n", 4));
    assert!(ended.stderr.lines().skip(1).all(|line| line.ends_with("  agrees")), "{}", ended.stderr);
}

#[test]
fn effects_of_exactly_nothing_agree() {
    for dtype in ["f32", "f64", "bf16"] {
        let place = Place::new();
        // It may warn: rounding is all there is to see.
        let swept = place.sweep(&["--edit", "scale:1", "--dtype", dtype]);
        assert_eq!((swept.code, swept.stdout.as_str()), (Some(0), "out\n"), "{dtype}: {}", swept.stderr);
        let ended = place.run(&["verify", "out", "--cells", "4"]);
        assert_eq!(ended.code, Some(0), "{dtype}: {}", ended.stderr);
    }
}

#[test]
fn numbers_and_weights_that_changed_are_found() {
    let place = Place::new();
    place.copy_model("m");
    assert_eq!(place.sweep(&["--model", "m"]), done("out\n"));
    let good = place.run(&["verify", "out", "--cells", "5"]);
    let yes = "yes: the inputs are those of the run, its files follow from each other, and every cell agrees\n";
    assert_eq!((good.code, good.stderr.as_str(), good.stdout.lines().count()), (Some(0), yes, 6), "{}", good.stdout);
    assert!(good.stdout.lines().skip(1).all(|line| line.ends_with("  agrees")), "{}", good.stdout);

    let per_trial = place.path("out/delta_per_trial.npy");
    let says_no = |lines: &str| {
        let ended = place.run(&["verify", "out", "--cells", "1"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), lines));
    };
    // One bit of one number of one trial, far below what a plain pass could tell.
    let last = std::fs::metadata(&per_trial).unwrap().len() as usize - 4;
    alter(&per_trial, |bytes| bytes[last + 1] ^= 0x10);
    says_no(
        "no: delta.npy is not the mean of delta_per_trial.npy\n\
         no: delta.json does not follow from the arrays\n\
         no: delta.csv does not follow from the arrays\n",
    );
    alter(&per_trial, |bytes| bytes[last + 1] ^= 0x10);
    assert_eq!(place.run(&["verify", "out", "--cells", "1"]).code, Some(0));

    // What the unedited runs measured is checked too; shares of a full transfer follow from it.
    let clean = place.path("out/metric_clean.npy");
    let data = std::fs::metadata(&clean).unwrap().len() as usize - 8;
    let raise = |bytes: &mut Vec<u8>| (128..data).step_by(8).for_each(|at| bytes[at + 7] ^= 0x40);
    alter(&clean, raise);
    let ended = place.run(&["verify", "out", "--cells", "1"]);
    assert_eq!((ended.code, ended.stderr.contains("\nno: metric_clean of ")), (Some(1), true), "{}", ended.stderr);
    alter(&clean, raise);

    // The lowest bit of one weight: no number shows it.
    let weights = place.path("m/model.safetensors");
    let byte = std::fs::metadata(&weights).unwrap().len() as usize - 2;
    alter(&weights, |bytes| bytes[byte] ^= 1);
    says_no("no: model.weights is not what run.json says: the weights changed since the run\n");
    alter(&weights, |bytes| bytes[byte] ^= 1);
    alter(&place.path("trials.jsonl"), |bytes| bytes.push(b'\n'));
    says_no("no: trials_sha256 is not what run.json says: the input changed since the run\n");
}

#[test]
fn what_is_no_folder_of_a_sweep_cannot_be_verified() {
    let place = Place::new();
    let ended = place.run(&["verify", "nowhere"]);
    let stderr = "error: nowhere: no such folder\nhint: give the folder that `interp sweep --out` wrote\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), stderr));
}
