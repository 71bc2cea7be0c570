//! The evidence that significant retrieval heads are what their name says: taking them away costs accuracy on prompts that
//! they were not found with, and taking others away does not. `cargo test findings -- --nocapture` prints the table.

use std::path::Path;

use interp_core::export::Study;
use interp_core::site::HeadRef;
use interp_core::stats::{self, Bootstrap, CellStats};
use serde_json::{Value, json};

use crate::common::{fixture, interp};

/// Draws of the random control.
const DRAWS: usize = 20;

/// Heads per layer.
const WIDTH: usize = 8;

/// The cells that a folder's own test takes, largest mean first.
fn significant(study: &Study) -> Vec<usize> {
    let summary = study.summary(0, &Bootstrap::default()).unwrap();
    let found = summary.test.significant.expect("100 clusters are enough for a test");
    summary.order.into_iter().filter(|&cell| found[cell]).collect()
}

fn label(cell: usize) -> String {
    HeadRef { layer: cell / WIDTH, head: cell % WIDTH }.to_string()
}

/// Accuracy on held-out prompts after zeroing z of each set at the last position: the unedited run first, then the named
/// sets, then the mean over the random ones.
fn ablate(model: &Path, out: &Path, sets: &[(String, Vec<usize>)]) -> Vec<(String, CellStats)> {
    let lines: Vec<Value> = sets
        .iter()
        .map(
            |(name, cells)| json!({ "name": name, "heads": cells.iter().map(|&cell| label(cell)).collect::<Vec<_>>() }),
        )
        .collect();
    let file = out.with_extension("sets.json");
    std::fs::write(&file, Value::from(lines).to_string()).unwrap();
    let trials = fixture("identity-rules/held-out.jsonl");
    let words = "sweep --threads 1 --no-floor --model {} --trials {} --edit zero --positions last --metric acc \
                 --grid sets:{} --out {}";
    let said = interp(words, &[&model, &trials, &file, &out]);
    assert_eq!(said.code, 0, "{}", said.err);
    let study = Study::load(out).unwrap();
    let random: Vec<usize> = (0..sets.len()).filter(|&i| sets[i].0.starts_with("random")).collect();
    let named: Vec<usize> = (0..sets.len()).filter(|i| !random.contains(i)).collect();
    let rows: Vec<Vec<f64>> = study.cells[0]
        .iter()
        .zip(&study.clean)
        .map(|(cells, clean)| {
            let after = |set: usize| clean[0] - f64::from(cells[set]);
            let mut row = vec![clean[0]];
            row.extend(named.iter().map(|&set| after(set)));
            row.push(random.iter().map(|&set| after(set)).sum::<f64>() / random.len() as f64);
            row
        })
        .collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let cells = stats::summarize(&rows, &study.clusters(), &Bootstrap::default()).unwrap();
    let names = ["unedited".to_owned()].into_iter().chain(named.iter().map(|&set| sets[set].0.clone()));
    let names = names.chain([format!("others, {DRAWS} random draws")]);
    names.zip(cells).collect()
}

/// The study of one checkpoint, and what it must show.
fn evidence(name: &str, folder: &str) {
    let temp = tempfile::tempdir().unwrap();
    let (model, pairs) = (fixture(folder).join("model"), fixture("identity-rules/token-pairs.jsonl"));
    let ranking = temp.path().join("ranking");
    let words = "sweep --threads 1 --no-floor --model {} --trials {} --edit patch --positions last --metric logit-diff --out {}";
    let said = interp(words, &[&model, &pairs, &ranking]);
    assert_eq!(said.code, 0, "{}", said.err);
    let study = Study::load(&ranking).unwrap();
    let order = study.summary(0, &Bootstrap::default()).unwrap().order;
    let found = significant(&study);
    assert_eq!(found, order[..found.len()], "the significant heads are the first of the ranking");
    let others = &order[found.len()..];

    // A layer has only so many heads: with most of it significant, its lowest heads are significant too, and no control.
    let lowest = |k: usize| stats::lowest_of_layers(&order, &order[..k], |cell| cell / WIDTH);
    let apart = |k: &usize| lowest(*k).iter().all(|cell| !order[..*k].contains(cell));
    let half = (1..=found.len()).rev().find(apart).expect("one head has another in its layer");
    // As many heads that are not significant, the lowest of the same layers first.
    let mut spared: Vec<usize> = others.iter().rev().copied().collect();
    spared.sort_by_key(|cell| !found.iter().any(|head| head / WIDTH == cell / WIDTH));
    spared.truncate(found.len());
    let mut sets = vec![
        ("significant".to_owned(), found.clone()),
        ("others, lowest of the layers first".to_owned(), spared),
        (format!("first {half}"), order[..half].to_vec()),
        (format!("lowest {half} of their layers"), lowest(half)),
    ];
    for draw in 0..DRAWS {
        sets.push((format!("random-{draw}"), stats::draw(others, found.len(), draw as u64).unwrap()));
    }
    let rows = ablate(&model, &temp.path().join("ablated"), &sets);
    println!("{name}: significant {}", found.iter().map(|&cell| label(cell)).collect::<Vec<_>>().join(" "));
    for (row, stats) in &rows {
        let [low, high] = stats.ci.unwrap();
        println!("  {row:36} accuracy {:.3} [{low:.3}, {high:.3}]", stats.mean);
    }
    let costs_more = |heads: usize, control: usize| {
        let (heads, control) = (&rows[heads], &rows[control]);
        let apart = heads.1.ci.unwrap()[1] < control.1.ci.unwrap()[0];
        assert!(apart && control.1.mean - heads.1.mean >= 0.3, "{name}: {heads:?} {control:?}");
    };
    // Unedited, significant, others, first half, lowest half, random.
    costs_more(1, 5);
    costs_more(1, 2);
    costs_more(3, 4);
    assert!(rows[0].1.mean > 0.95, "{:?}", rows[0]);
}

#[test]
fn significant_retrieval_heads_carry_the_accuracy() {
    evidence("seed 0", "identity-rules");
    evidence("seed 1", "identity-rules-seed1");
}
