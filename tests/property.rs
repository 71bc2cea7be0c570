//! Exactness as a property: random models, prompts, grids, edits and bounds on rows, and a plain full pass for each cell
//! that is compared. Every site meets every edit that it has. `PROPTEST_CASES` sets the number of cases for each such pair,
//! for a longer run (`PROPTEST_CASES=60 cargo test --release property`), and `PROPTEST_RNG_SEED` draws other ones.

mod check;
mod meaning;
mod model;
mod naive;
mod particular;
mod question;
mod random_numbers;

use interp_core::device::Dtype;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner, contextualize_config};

use self::check::{Check, KINDS, Tally};
use self::model::{Folder, Geometry, geometries};
use self::question::{Knobs, Question, knobs, pairs};

/// Runs a property for every site with every edit that is defined there.
fn for_all_pairs(cases: u32, seed: u64, property: impl Fn(&Question, &Folder) -> Result<(), TestCaseError>) {
    for (n, (site, kind)) in pairs().into_iter().enumerate() {
        let config = Config {
            cases,
            failure_persistence: None,
            max_shrink_iters: 200,
            rng_seed: RngSeed::Fixed(seed + n as u64),
            ..Config::default()
        };
        let strategy = (geometries(), knobs());
        let outcome =
            TestRunner::new(contextualize_config(config)).run(&strategy, |(geometry, knobs): (Geometry, Knobs)| {
                let folder = geometry.write();
                let question = knobs.question(&folder.config, site, kind);
                property(&question, &folder).map_err(|error| TestCaseError::fail(format!("{error}\n{question:?}")))
            });
        if let Err(error) = outcome {
            panic!("{site} {kind:?}: {error}");
        }
    }
}

/// Fails unless the cases covered what they are meant to, and were models in which heads matter.
fn assert_covered(tally: &Tally) {
    tally.require(&KINDS);
    let (strong, weak) = (tally.of("strong metrics"), tally.of("weak metrics"));
    println!("{} answers, {} cells; {strong} metrics moved, {weak} hardly", tally.of("answered"), tally.of("cells"));
    assert!(strong > weak, "{strong} metrics were moved by a tenth, {weak} by less");
}

#[test]
fn in_double_precision_every_answer_is_that_of_a_plain_full_pass() {
    let tally = Tally::default();
    for_all_pairs(6, 0, |question, folder| {
        let decoder = folder.load(Dtype::F64);
        Check { question, reference: &decoder, tolerance: 1e-9, tally: &tally }.of(&decoder)
    });
    assert_covered(&tally);
}

#[test]
fn in_single_precision_every_answer_is_within_a_thousandth_of_the_largest_effect() {
    let tally = Tally::default();
    for_all_pairs(2, 1000, |question, folder| {
        let plain = folder.load(Dtype::F32);
        let check = Check { question, reference: &plain, tolerance: 1e-3, tally: &tally };
        check.of(&plain)?;
        check.of(&folder.load_for_waves(Dtype::F32))
    });
    assert_covered(&tally);
}
