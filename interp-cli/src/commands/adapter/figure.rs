//! Heat maps of an adapter: layer x module, layer x head for q and o, layer x KV head for k and v.

use interp_core::anatomy::Module;
use interp_core::plot::{Map, Maps};
use interp_core::scores::GridAxis;
use interp_core::site::HeadAxis;

use super::Anatomy;

/// Maps that stand in one row, on one colour scale.
const HEADS: [[Module; 2]; 2] = [[Module::Q, Module::O], [Module::K, Module::V]];

impl Anatomy {
    /// `adapter`, the norms, and of two adapters `likeness`: cosines and overlaps.
    pub fn figures(&self) -> Vec<(&'static str, Maps)> {
        let names: Vec<&str> = self.adapters.iter().map(|adapter| adapter.name()).collect();
        let mut figures = vec![("adapter", self.norm_figure(&names))];
        if self.likenesses.is_some() {
            figures.push(("likeness", self.likeness_figure(&names)));
        }
        figures
    }

    fn norm_figure(&self, names: &[&str]) -> Maps {
        let title = |what: &str, adapter: usize| match names {
            [_] => what.to_owned(),
            names => format!("{what}, {}", names[adapter]),
        };
        let adapters = 0..names.len();
        let whole = adapters.clone().map(|i| map(title("modules", i), self.module_axes(), self.norms(i), 0)).collect();
        let mut rows: Vec<Vec<Map>> = vec![whole];
        for (i, modules) in self.head_modules().into_iter().enumerate() {
            let places = modules.iter().flat_map(|&module| adapters.clone().map(move |adapter| (module, adapter)));
            let of_heads = |(module, adapter): (Module, usize)| {
                let title = title(module.name(), adapter);
                map(title, self.head_axes(module), self.head_norms(adapter, module), 1 + i)
            };
            rows.push(places.map(of_heads).collect());
        }
        let scales = ["‖ΔW‖ of a module", "‖ΔW‖ of a head", "‖ΔW‖ of a KV head"].map(String::from).to_vec();
        Maps {
            title: format!("Size of the change: {}", names.join(" and ")),
            subtitle: "Frobenius norm of s·BA; a head is its rows of q, k and v and its columns of o".into(),
            scales,
            rows: rows.into_iter().filter(|row| !row.is_empty()).collect(),
        }
    }

    fn likeness_figure(&self, names: &[&str]) -> Maps {
        let whole = |title: &str, values: Vec<f64>, scale| map(title.into(), self.module_axes(), values, scale);
        let mut rows = vec![vec![
            whole("modules", self.cosines(), 0),
            whole("written spaces", self.overlaps(|out, _| out), 1),
            whole("read spaces", self.overlaps(|_, input| input), 1),
        ]];
        for modules in self.head_modules() {
            let of_heads =
                |&module: &Module| map(module.name().into(), self.head_axes(module), self.head_cosines(module), 0);
            rows.push(modules.iter().map(of_heads).collect());
        }
        Maps {
            title: format!("Likeness of the changes: {}", names.join(" and ")),
            subtitle: "cosine of s·BA, and mean squared cosine of the principal angles of B's columns and A's rows"
                .into(),
            scales: vec!["cosine".into(), "overlap".into()],
            rows: rows.into_iter().filter(|row| !row.is_empty()).collect(),
        }
    }

    /// [`HEADS`], as far as an adapter changes them.
    fn head_modules(&self) -> Vec<Vec<Module>> {
        let changed = self.modules();
        HEADS.iter().map(|row| row.iter().copied().filter(|module| changed.contains(module)).collect()).collect()
    }

    fn module_axes(&self) -> Vec<GridAxis> {
        let names = self.modules().into_iter().map(|module| module.name().trim_end_matches("_proj").to_owned());
        vec![GridAxis::layers(0..self.config.n_layers), GridAxis::named("module", names.collect())]
    }

    fn head_axes(&self, module: Module) -> Vec<GridAxis> {
        let n_heads = module.n_heads(&self.config).unwrap_or(0);
        let heads = match module.heads() {
            Some((HeadAxis::Kv, _)) => GridAxis::named("kv_head", (0..n_heads).map(|head| head.to_string()).collect()),
            _ => GridAxis::heads(0..n_heads),
        };
        vec![GridAxis::layers(0..self.config.n_layers), heads]
    }
}

fn map(title: String, axes: Vec<GridAxis>, values: Vec<f64>, scale: usize) -> Map {
    Map { title, axes, values, below_floor: None, muted: None, outlined: Vec::new(), scale }
}
