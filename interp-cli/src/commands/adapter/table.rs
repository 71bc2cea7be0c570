//! An adapter's anatomy as rows, arrays and tables. Computes nothing but sums over layers.
//!
//! A row per module, `head` null, and one per head of it: `layer`, `module`, `head_axis` (`query` or `kv`), `head`, `label`,
//! `rank` and `norm`; of two adapters also `rank_2`, `norm_2`, `cosine`, and of whole modules `overlap_out` and `overlap_in`
//! (mean squared cosine of the principal angles of what they write and of what they read) with `chance_out` and `chance_in`,
//! what random spaces would have. What an adapter does not change is null.

use interp_core::anatomy::{Module, Overlap, Size};
use serde_json::{Map, Value, json};

use super::Anatomy;
use crate::output::{columns, number};

impl Anatomy {
    /// Modules that any adapter changes, in the order of a pass.
    pub fn modules(&self) -> Vec<Module> {
        let changed = |module: &Module| self.sizes.iter().any(|sizes| sizes.keys().any(|(_, other)| other == module));
        Module::ALL.into_iter().filter(changed).collect()
    }

    /// The rows of `adapter.json` and `adapter.csv`, by layer, module and head.
    pub fn rows(&self) -> Vec<Map<String, Value>> {
        let mut rows = Vec::new();
        for layer in 0..self.config.n_layers {
            for module in self.modules() {
                if self.sizes.iter().any(|sizes| sizes.contains_key(&(layer, module))) {
                    let heads = (0..module.n_heads(&self.config).unwrap_or(0)).map(Some);
                    rows.extend(std::iter::once(None).chain(heads).map(|head| self.row(layer, module, head)));
                }
            }
        }
        rows
    }

    fn row(&self, layer: usize, module: Module, head: Option<usize>) -> Map<String, Value> {
        let label =
            head.map_or(format!("L{layer}.{}", module.name()), |head| format!("L{layer}.H{head}.{}", module.name()));
        let axis = module.heads().filter(|_| head.is_some()).map(|(axis, _)| axis.name());
        let mut row = Map::new();
        let mut put = |name: &str, value: Value| row.insert(name.into(), value);
        put("layer", json!(layer));
        put("module", json!(module.name()));
        put("head_axis", json!(axis));
        put("head", json!(head));
        put("label", json!(label));
        for (sizes, [rank, norm]) in self.sizes.iter().zip([["rank", "norm"], ["rank_2", "norm_2"]]) {
            let size = sizes.get(&(layer, module));
            put(rank, json!(size.map(|size| size.rank)));
            put(norm, json!(size.map(|size| of_head(size, head))));
        }
        if let Some(likenesses) = &self.likenesses {
            let likeness = likenesses.get(&(layer, module));
            let cosine = likeness.map(|likeness| match (head, &likeness.heads) {
                (Some(head), Some(heads)) => heads[head],
                _ => likeness.cosine,
            });
            put("cosine", json!(cosine));
            let whole = likeness.filter(|_| head.is_none());
            put("overlap_out", json!(whole.map(|likeness| likeness.out.mean)));
            put("chance_out", json!(whole.map(|likeness| likeness.out.chance)));
            put("overlap_in", json!(whole.map(|likeness| likeness.input.mean)));
            put("chance_in", json!(whole.map(|likeness| likeness.input.chance)));
        }
        row
    }

    /// Name, shape without the layers' axis (which stands before the last) and values of every array: `norm` `[adapter, layer,
    /// module]`, `norm_q` … `[adapter, layer, head]`, and of two adapters `cosine`, `overlap_out`, `overlap_in` `[layer,
    /// module]` and `cosine_q` … `[layer, head]`. A module's axis is [`Anatomy::modules`]; NaN where nothing is changed.
    pub fn arrays(&self) -> Vec<(String, Vec<usize>, Vec<f64>)> {
        let (modules, n) = (self.modules(), self.sizes.len());
        let with_heads = || modules.iter().filter_map(|&module| Some((module, module.n_heads(&self.config)?)));
        let adapters = 0..n;
        let norms = adapters.clone().flat_map(|adapter| self.norms(adapter)).collect();
        let mut arrays = vec![("norm".to_owned(), vec![n, modules.len()], norms)];
        for (module, n_heads) in with_heads() {
            let values = adapters.clone().flat_map(|adapter| self.head_norms(adapter, module)).collect();
            arrays.push((format!("norm_{}", letter(module)), vec![n, n_heads], values));
        }
        if self.likenesses.is_some() {
            let shape = || vec![modules.len()];
            arrays.push(("cosine".into(), shape(), self.cosines()));
            arrays.push(("overlap_out".into(), shape(), self.overlaps(|out, _| out)));
            arrays.push(("overlap_in".into(), shape(), self.overlaps(|_, input| input)));
            for (module, n_heads) in with_heads() {
                arrays.push((format!("cosine_{}", letter(module)), vec![n_heads], self.head_cosines(module)));
            }
        }
        arrays
    }

    /// `[layer, module]`
    pub fn norms(&self, adapter: usize) -> Vec<f64> {
        self.by_module(|at| self.sizes[adapter].get(&at).map(|size| size.norm))
    }

    /// `[layer, head]`
    pub fn head_norms(&self, adapter: usize, module: Module) -> Vec<f64> {
        self.by_head(module, |layer| self.sizes[adapter].get(&(layer, module))?.heads.clone())
    }

    /// `[layer, module]`
    pub fn cosines(&self) -> Vec<f64> {
        self.by_module(|at| Some(self.likenesses.as_ref()?.get(&at)?.cosine))
    }

    /// `[layer, head]`
    pub fn head_cosines(&self, module: Module) -> Vec<f64> {
        self.by_head(module, |layer| self.likenesses.as_ref()?.get(&(layer, module))?.heads.clone())
    }

    /// `[layer, module]`, of the output's side or the input's.
    pub fn overlaps(&self, side: fn(Overlap, Overlap) -> Overlap) -> Vec<f64> {
        self.by_module(|at| {
            let likeness = self.likenesses.as_ref()?.get(&at)?;
            Some(side(likeness.out, likeness.input).mean)
        })
    }

    fn by_module(&self, value: impl Fn((usize, Module)) -> Option<f64>) -> Vec<f64> {
        let modules = self.modules();
        let places = (0..self.config.n_layers).flat_map(|layer| modules.iter().map(move |&module| (layer, module)));
        places.map(|at| value(at).unwrap_or(f64::NAN)).collect()
    }

    fn by_head(&self, module: Module, values: impl Fn(usize) -> Option<Vec<f64>>) -> Vec<f64> {
        let nothing = || vec![f64::NAN; module.n_heads(&self.config).unwrap_or(0)];
        (0..self.config.n_layers).flat_map(|layer| values(layer).unwrap_or_else(nothing)).collect()
    }

    /// What a reader sees first: every module over all layers, and the query heads that change most.
    pub fn tables(&self, top: usize) -> String {
        let several = self.adapters.len() > 1;
        let mut head: Vec<String> = vec!["module".into()];
        for adapter in &self.adapters {
            let of = if several { format!(" {}", adapter.name()) } else { String::new() };
            head.extend([format!("layers{of}"), "rank".into(), "norm".into(), "largest".into(), "at".into()]);
        }
        if several {
            head.extend(["mean cosine", "overlap out", "chance", "overlap in", "chance"].map(String::from));
        }
        let rows: Vec<Vec<String>> = self.modules().into_iter().map(|module| self.module_row(module)).collect();
        format!("{}\n{}", columns(&head, &rows), self.heads_table(top))
    }

    fn module_row(&self, module: Module) -> Vec<String> {
        let mut row = vec![module.name().to_owned()];
        for sizes in &self.sizes {
            let of_module: Vec<(usize, &Size)> = sizes
                .iter()
                .filter(|((_, other), _)| *other == module)
                .map(|((layer, _), size)| (*layer, size))
                .collect();
            let largest = of_module.iter().max_by(|a, b| a.1.norm.total_cmp(&b.1.norm));
            let mut ranks: Vec<String> = of_module.iter().map(|(_, size)| size.rank.to_string()).collect();
            ranks.dedup();
            row.extend([
                of_module.len().to_string(),
                if ranks.len() == 1 { ranks.remove(0) } else { "-".into() },
                largest.map_or("-".into(), |_| {
                    number(of_module.iter().map(|(_, size)| size.norm.powi(2)).sum::<f64>().sqrt())
                }),
                largest.map_or("-".into(), |(_, size)| number(size.norm)),
                largest.map_or("-".into(), |(layer, _)| format!("L{layer}")),
            ]);
        }
        if let Some(likenesses) = &self.likenesses {
            let of_module: Vec<_> =
                likenesses.iter().filter(|((_, other), _)| *other == module).map(|(_, likeness)| likeness).collect();
            let mean = |value: &dyn Fn(usize) -> f64| {
                let values: Vec<f64> = (0..of_module.len()).map(value).filter(|value| !value.is_nan()).collect();
                number(values.iter().sum::<f64>() / values.len() as f64)
            };
            row.extend([
                mean(&|i| of_module[i].cosine),
                mean(&|i| of_module[i].out.mean),
                mean(&|i| of_module[i].out.chance),
                mean(&|i| of_module[i].input.mean),
                mean(&|i| of_module[i].input.chance),
            ]);
        }
        row
    }

    /// Query heads by what the first adapter changes of their q rows and o columns together.
    fn heads_table(&self, top: usize) -> String {
        let n_heads = self.config.n_heads;
        let modules: Vec<Module> =
            self.modules().into_iter().filter(|module| [Module::Q, Module::O].contains(module)).collect();
        if modules.is_empty() {
            return "no query head is changed by itself: neither q_proj nor o_proj is\n".into();
        }
        let norms: Vec<Vec<Vec<f64>>> = (0..self.sizes.len())
            .map(|adapter| modules.iter().map(|&module| self.head_norms(adapter, module)).collect())
            .collect();
        let total = |cell: usize| {
            norms[0].iter().map(|norms| norms[cell]).filter(|norm| !norm.is_nan()).map(|x| x * x).sum::<f64>()
        };
        let mut order: Vec<usize> = (0..self.config.n_layers * n_heads).collect();
        order.sort_by(|&a, &b| total(b).total_cmp(&total(a)));
        let mut head: Vec<String> = vec!["head".into()];
        for adapter in &self.adapters {
            let of = if self.adapters.len() > 1 { format!(" {}", adapter.name()) } else { String::new() };
            head.extend(modules.iter().map(|module| format!("{}{of}", module.name())));
        }
        let cosines: Vec<Vec<f64>> = match self.likenesses {
            Some(_) => modules.iter().map(|&module| self.head_cosines(module)).collect(),
            None => Vec::new(),
        };
        head.extend(cosines.iter().zip(&modules).map(|(_, module)| format!("cosine {}", module.name())));
        let row = |&cell: &usize| {
            let label = format!("L{}.H{}", cell / n_heads, cell % n_heads);
            let values = norms.iter().flatten().chain(&cosines).map(|values| number(values[cell]));
            std::iter::once(label).chain(values).collect::<Vec<String>>()
        };
        columns(&head, &order.iter().take(top).map(row).collect::<Vec<_>>())
    }
}

fn of_head(size: &Size, head: Option<usize>) -> f64 {
    match (head, &size.heads) {
        (Some(head), Some(heads)) => heads[head],
        _ => size.norm,
    }
}

/// `q` for `q_proj`: what a file of its heads is called.
fn letter(module: Module) -> &'static str {
    module.name().trim_end_matches("_proj")
}
