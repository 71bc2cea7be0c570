//! Sites, layers and heads as typed, made into hook points of a model.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::Result;
use interp_core::Error;
use interp_core::config::ModelConfig;
use interp_core::site::{Axis, HeadAxis, HeadRef, HookPoint, Layers, Site};

/// A hook point and the heads meant there; `None` means all of them, or that there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Where.
    pub at: HookPoint,
    /// Heads on the site's head axis, sorted.
    pub heads: Option<Vec<usize>>,
}

/// Values separated by commas.
pub fn list<T: FromStr<Err = Error>>(text: &str) -> Result<Vec<T>> {
    Ok(text.split(',').map(|part| part.trim().parse::<T>()).collect::<interp_core::Result<_>>()?)
}

/// Heads on a site's head axis; `None` at sites without heads.
pub fn n_heads(site: Site, config: &ModelConfig) -> Option<usize> {
    site.head_axis().map(|axis| if axis == HeadAxis::Kv { config.n_kv_heads } else { config.n_heads })
}

/// Length of a site's last axis; the prompt's length at attention sites, for which this is 0.
pub fn width(site: Site, config: &ModelConfig) -> usize {
    match site.axes().last() {
        Some(Axis::DHead) => config.d_head,
        Some(Axis::DMlp) => config.d_mlp,
        Some(Axis::Src) => 0,
        _ => config.d_model,
    }
}

/// The hook points of `sites` at `layers` (`A..B`) and `heads` (`L19.H17,…`). Named heads choose the layers too.
pub fn points(
    sites: &[Site],
    layers: Option<&str>,
    heads: Option<&str>,
    config: &ModelConfig,
) -> Result<Vec<Selected>> {
    let range = match layers {
        Some(text) => text.parse::<Layers>()?.resolve(config.n_layers)?,
        None => 0..config.n_layers,
    };
    let mut by_layer: Option<BTreeMap<usize, Vec<usize>>> = None;
    for head in heads.map(list::<HeadRef>).transpose()?.into_iter().flatten() {
        if !range.contains(&head.layer) {
            let problem = format!("its layer is not among the layers {}..{}", range.start, range.end);
            return Err(refuse("head", head, problem, "layers and heads count from 0").into());
        }
        by_layer.get_or_insert_default().entry(head.layer).or_default().push(head.head);
    }
    let mut selected = Vec::new();
    for &site in sites {
        let n_heads = n_heads(site, config);
        if by_layer.is_some() && n_heads.is_none() {
            let hint = "leave --heads out, or use a site with heads such as z";
            return Err(refuse("site", site, "has no heads to select".into(), hint).into());
        }
        let chosen = |layer: usize| by_layer.as_ref().map(|heads| heads.get(&layer).cloned().unwrap_or_default());
        let layers = if site.is_per_layer() { range.clone() } else { 0..1 };
        for layer in layers {
            let mut heads = chosen(layer);
            if let Some(heads) = &mut heads {
                heads.sort_unstable();
                heads.dedup();
                let n = n_heads.unwrap_or(0);
                if let Some(&head) = heads.iter().find(|&&head| head >= n) {
                    let axis = site.head_axis().map_or("", HeadAxis::name);
                    let problem = format!("`{site}` has {axis} heads 0..{n}");
                    return Err(refuse("head", HeadRef { layer, head }, problem, "heads count from 0").into());
                }
                if heads.is_empty() {
                    continue;
                }
            }
            selected.push(Selected { at: HookPoint::new(site, layer), heads });
        }
    }
    Ok(selected)
}

fn refuse(what: &'static str, value: impl ToString, problem: String, hint: &str) -> Error {
    Error::Selector { what, value: value.to_string(), problem, hint: Some(hint.into()) }
}
