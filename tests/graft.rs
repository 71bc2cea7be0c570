//! Sweeps over the parts of an adapter, as waves: every cell against a plain pass, all parts against the adapter.

use interp_core::adapter::Adapter;
use interp_core::checkpoint::Location;
use interp_core::decoder::{Decoder, Part};
use interp_core::device::Dtype;
use interp_core::hub::HubOptions;
use interp_core::intervention::Edit;
use interp_core::metric::Metric;
use interp_core::site::{HeadRef, Positions, Site};
use interp_core::sweep::{Grid, HeadSet, Models, Sweep};
use interp_core::trial::{Target, Trial};

use crate::common::{fixture, load, load_for_waves, open, prompt, tiny};

const TOKENS: [i64; 12] = [47, 50, 120, 67, 70, 126, 70, 106, 9, 33, 4, 81];

fn adapted(base: &Decoder) -> Decoder {
    let location = Location::Folder(fixture("adapters/qwen2-plain"));
    let config = open(&tiny("qwen2"));
    let adapter = Adapter::open(&location, &HubOptions::from_vars(|_| None), config.config()).expect("opens");
    base.with(&adapter).expect("fits")
}

fn trial() -> Trial {
    Trial {
        id: "t".into(),
        cluster: None,
        direction: None,
        source_answer: None,
        target: Target { correct: 7, incorrect: Some(11) },
        base: prompt(&TOKENS),
        source: None,
    }
}

fn sweep(edit: Edit, grid: Grid) -> Sweep {
    Sweep {
        site: Site::Z,
        edit,
        grid,
        positions: vec![Positions::All],
        layers: 0..3,
        heads: None,
        metrics: vec![Metric::LogitDiff, Metric::Kl],
        max_rows: None,
        seed: 0,
    }
}

/// The models of a graft, or of its opposite.
fn models<'a>(edit: &Edit, plain: &'a Decoder, adapted: &'a Decoder) -> Models<'a> {
    let base = if matches!(edit, Edit::Graft) { plain } else { adapted };
    Models { adapted: Some(adapted), ..Models::of(base) }
}

fn all_heads(n_layers: usize, n_heads: usize) -> Vec<HeadRef> {
    (0..n_layers).flat_map(|layer| (0..n_heads).map(move |head| HeadRef { layer, head })).collect()
}

#[test]
fn every_part_in_a_wave_equals_a_plain_pass() {
    let plain = load(&tiny("qwen2"), Dtype::F64);
    let adapted = adapted(&plain);
    let trial = trial();
    for edit in [Edit::Graft, Edit::Ungraft] {
        for max_rows in [None, Some(4)] {
            let sweep = Sweep { max_rows, ..sweep(edit.clone(), Grid::LayerPart) };
            let models = models(&edit, &plain, &adapted);
            let axes = sweep.axes(plain.config(), &trial).unwrap();
            let (grid, _) = sweep.trial(models, &axes, &trial).unwrap();
            let largest = grid.values[0].iter().fold(0.0f64, |a, b| a.max(b.abs()));
            assert!(largest > 1e-3, "the adapter does nothing");
            assert_eq!(grid.values[0].len(), Part::all(plain.config()).count());
            for cell in 0..grid.values[0].len() {
                let expected = sweep.plain(models, &trial, cell).unwrap().expect("a cell");
                for (metric, expected) in expected.iter().enumerate() {
                    let off = (grid.values[metric][cell] - expected).abs();
                    assert!(off <= 1e-9 * largest, "{edit:?} {max_rows:?} cell {cell}: {off:e}");
                }
            }
        }
    }
}

#[test]
fn all_heads_and_none_are_the_models_with_and_without() {
    let plain = load_for_waves(&tiny("qwen2"), Dtype::F32);
    let adapted = adapted(&plain);
    let trial = trial();
    let config = plain.config();
    let sets = |site, n| {
        let sets = vec![
            HeadSet { name: "none".into(), heads: Vec::new() },
            HeadSet { name: "all".into(), heads: all_heads(config.n_layers, n) },
        ];
        Sweep { site, ..sweep(Edit::Graft, Grid::Sets(sets)) }
    };
    for (site, n) in [(Site::Z, config.n_heads), (Site::V, config.n_kv_heads)] {
        let sweep = sets(site, n);
        let axes = sweep.axes(config, &trial).unwrap();
        let (grid, _) = sweep.trial(models(&Edit::Graft, &plain, &adapted), &axes, &trial).unwrap();
        assert_eq!(grid.values[0][0], 0.0, "nothing grafted");
        assert!(grid.values[0][1].abs() > 1e-4, "{site}: all heads");
    }
    // Query heads, KV heads and MLPs together, one cell each way: what grafting all adds, ungrafting all takes away.
    let whole = |edit: Edit, cell: usize| {
        let sweep = sweep(edit.clone(), Grid::LayerPart);
        let axes = sweep.axes(config, &trial).unwrap();
        let (grid, _) = sweep.trial(models(&edit, &plain, &adapted), &axes, &trial).unwrap();
        (grid.clean[0], grid.values[0][cell])
    };
    let (clean_without, _) = whole(Edit::Graft, 0);
    let (clean_with, _) = whole(Edit::Ungraft, 0);
    let metric = |decoder: &Decoder| {
        let sweep = sweep(Edit::Zero, Grid::LayerHead);
        sweep.plain_clean(Models::of(decoder), &trial).unwrap()[0]
    };
    assert!((clean_without - metric(&plain)).abs() < 1e-5 && (clean_with - metric(&adapted)).abs() < 1e-5);
    assert!((clean_with - clean_without).abs() > 1e-3);
}

#[test]
fn what_cannot_be_grafted_is_refused() {
    let plain = load(&tiny("qwen2"), Dtype::F64);
    let adapted = adapted(&plain);
    let trial = trial();
    let refused = |sweep: Sweep, models: Models<'_>| {
        let axes =
            Sweep { grid: Grid::LayerPart, site: Site::Z, ..sweep.clone() }.axes(plain.config(), &trial).unwrap();
        sweep.trial(models, &axes, &trial).unwrap_err().to_string()
    };
    let graft = models(&Edit::Graft, &plain, &adapted);
    let error = refused(sweep(Edit::Graft, Grid::LayerPart), Models::of(&plain));
    assert!(error.contains("no adapter whose parts could be taken"), "{error}");
    let error = refused(sweep(Edit::Zero, Grid::LayerPart), Models::of(&plain));
    assert!(error.contains("has parts of an adapter"), "{error}");
    let last = Sweep { positions: vec![Positions::Index(vec![-1])], ..sweep(Edit::Graft, Grid::LayerPart) };
    assert!(refused(last, graft).contains("acts at all positions"));
    assert!(refused(sweep(Edit::Graft, Grid::LayerPos), graft).contains("acts at all positions"));
    let site = Sweep { site: Site::MlpOut, ..sweep(Edit::Graft, Grid::LayerHead) };
    assert!(refused(site, graft).contains("is no part of an adapter"));
}
