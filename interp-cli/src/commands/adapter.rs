//! `interp adapter`: where a LoRA adapter changes a model, and how alike two adapters are. Reads A and B, the configuration
//! of the model, and no weights.

mod figure;
mod table;

use std::fs;
use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::adapter::Adapter;
use interp_core::anatomy::{self, Changes, Likeness, LowRank, Module, Size};
use interp_core::checkpoint::{Checkpoint, CheckpointRef, Location};
use interp_core::config::ModelConfig;
use interp_core::export::{npy, table as text, write_atomic};
use interp_core::hash::Hashes;
use interp_core::hub::HubOptions;
use interp_core::plot;
use serde_json::{Value, json};

use crate::cli::AdapterArgs;
use crate::output::{Exit, Printer};

/// What is measured of one value per layer and module.
type ByModule<T> = std::collections::BTreeMap<(usize, Module), T>;

/// One adapter, or two, taken apart.
struct Anatomy {
    config: ModelConfig,
    adapters: Vec<Adapter>,
    /// Per adapter.
    sizes: Vec<ByModule<Size>>,
    /// Of two adapters.
    likenesses: Option<ByModule<Likeness>>,
}

/// Measures, writes the folder if one was named, and prints.
pub fn adapter(args: &AdapterArgs, printer: &Printer) -> Result<Exit> {
    if let Some(out) = &args.out {
        check(out)?;
    }
    let anatomy = Anatomy::open(args)?;
    for adapter in &anatomy.adapters {
        adapter.warnings().iter().for_each(|warning| printer.talk(&format!("note: {}: {warning}", adapter.name())));
        if adapter.deltas().values().any(|delta| delta.magnitude.is_some()) {
            let name = adapter.name();
            printer.talk(&format!("note: {name}: DoRA magnitudes rescale W + BA besides; the numbers are those of BA"));
        }
        if !adapter.biases().is_empty() || adapter.deltas().values().any(|delta| delta.bias.is_some()) {
            printer.talk(&format!("note: {}: biases change too; the numbers are those of BA", adapter.name()));
        }
    }
    if let Some(out) = &args.out {
        anatomy.write(out, args)?;
    }
    match (&args.out, args.json) {
        (_, true) => printer.data(&anatomy.json(args)?)?,
        (Some(out), false) => {
            anatomy.tables(args.top).lines().for_each(|line| printer.talk(line));
            printer.data(&format!("{}\n", out.display()))?;
        }
        (None, false) => printer.data(&anatomy.tables(args.top))?,
    }
    Ok(Exit::Done)
}

impl Anatomy {
    fn open(args: &AdapterArgs) -> Result<Self> {
        let mut hub = HubOptions::from_env();
        hub.offline |= args.offline;
        let file = Path::new(&args.model);
        let config = if file.is_file() {
            ModelConfig::from_file(file)?
        } else {
            let model = CheckpointRef { name: None, model: location(&args.model)?, steps: Vec::new() };
            Checkpoint::open(&model, &hub)?.config().clone()
        };
        let names = std::iter::once(&args.adapter).chain(&args.other);
        let open = |text: &String| Ok(Adapter::open(&location(text)?, &hub, &config)?);
        let adapters = names.map(open).collect::<Result<Vec<Adapter>>>()?;
        let changes: Vec<Changes> = adapters.iter().map(changes).collect();
        let sizes = changes.iter().map(|changes| anatomy::sizes(changes, &config)).collect();
        let likenesses = match changes.as_slice() {
            [one, other] => Some(anatomy::likenesses(one, other, &config)),
            _ => None,
        };
        Ok(Self { config, adapters, sizes, likenesses })
    }

    /// `adapter.json`.
    fn json(&self, args: &AdapterArgs) -> Result<String> {
        let paths = self.adapters.iter().map(|adapter| adapter.file().to_path_buf()).collect();
        let hashes = Hashes::start(paths).wait()?;
        let names = std::iter::once(&args.adapter).chain(&args.other);
        let adapter = |((adapter, name), hash): ((&Adapter, &String), &interp_core::hash::FileHash)| {
            json!({
                "name": adapter.name(),
                "given": name,
                "sha256": hash.sha256,
                "n_params": adapter.n_params(),
                "replaced": adapter.saved().keys().collect::<Vec<_>>(),
                "biases": adapter.biases().keys().collect::<Vec<_>>(),
                "magnitudes": adapter.deltas().values().any(|delta| delta.magnitude.is_some()),
                "warnings": adapter.warnings(),
            })
        };
        let config = &self.config;
        let adapters: Vec<Value> = self.adapters.iter().zip(names).zip(&hashes).map(adapter).collect();
        let head = json!({
            "schema": "interp.adapter/1",
            "index_base": 0,
            "norm": "Frobenius norm of scale * B A",
            "model": args.model,
            "n_layers": config.n_layers,
            "n_heads": config.n_heads,
            "n_kv_heads": config.n_kv_heads,
            "adapters": adapters,
            "tool_version": env!("CARGO_PKG_VERSION"),
        });
        Ok(text::with_cells(&head, self.rows()))
    }

    /// Writes every file, `adapter.json` last.
    fn write(&self, out: &Path, args: &AdapterArgs) -> Result<()> {
        fs::create_dir_all(out).map_err(Error::io("create", out))?;
        let put = |name: &str, bytes: &[u8]| write_atomic(&out.join(name), bytes);
        let n_layers = self.config.n_layers;
        for (name, shape, values) in self.arrays() {
            let mut shape = shape;
            shape.insert(shape.len() - 1, n_layers);
            put(&format!("{name}.npy"), &npy::encode(&shape, &values))?;
        }
        put("adapter.csv", text::csv_of(&self.rows()).as_bytes())?;
        for (name, maps) in self.figures() {
            put(&format!("{name}.svg"), plot::maps_svg(&maps)?.as_bytes())?;
            put(&format!("{name}.png"), &plot::maps_png(&maps)?)?;
        }
        put("adapter.json", self.json(args)?.as_bytes())?;
        Ok(())
    }
}

/// An adapter's changes of the layers' linear maps, which are all that it can have.
fn changes(adapter: &Adapter) -> Changes {
    let change = |(name, delta): (&String, &interp_core::adapter::Delta)| {
        Some((Module::parse(name)?, LowRank::new(&delta.a, &delta.b, delta.scale)))
    };
    adapter.deltas().iter().filter_map(change).collect()
}

/// A folder or a hub id, without anything merged or applied.
fn location(text: &str) -> Result<Location> {
    let CheckpointRef { model, steps, .. } = text.parse()?;
    if steps.is_empty() {
        return Ok(model);
    }
    let (problem, hint) = ("only folders and hub ids can be named here", "leave +merge: and +apply: out");
    let (value, problem, hint) = (text.into(), problem.into(), Some(hint.into()));
    Err(Error::Selector { what: "checkpoint", value, problem, hint }.into())
}

/// Errs unless the folder is new or empty, or one of this command's.
fn check(out: &Path) -> Result<()> {
    let taken = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    if out.is_file() || taken && !out.join("adapter.json").is_file() {
        let problem = "not empty and not a folder of interp adapter".into();
        let hint = Some("give a new or an empty folder".into());
        return Err(Error::File { path: out.into(), problem, hint }.into());
    }
    Ok(())
}
