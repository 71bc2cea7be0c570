//! Which activation vectors an intervention changes on a prompt, and every mistake that can be found without a run. Writes
//! nothing.

use super::bind::Context;
use super::{Edit, Intervention};
use crate::error::{Error, Result};
use crate::prompt::{Prompt, paired_positions};
use crate::site::{HeadAxis, Site};

/// One activation vector to change: its position, its head (0 at sites without heads), and the matching source position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) pos: usize,
    pub(super) head: usize,
    pub(super) source_pos: Option<usize>,
    /// Whether the source's unedited run has here what the base's has.
    pub(super) equal: bool,
}

/// Checks a set and lists the places that each of its interventions changes. A patch of what is equal anyway is left out,
/// but not from where the set has changed something else on: there it takes that change back.
pub(super) fn changed(
    set: &[Intervention],
    prompt: &Prompt,
    source: Option<&Prompt>,
    same_weights: bool,
    context: &Context<'_>,
) -> Result<Vec<Vec<Place>>> {
    let resolve = |one| resolve(one, prompt, source, same_weights, context);
    let mut places = set.iter().map(resolve).collect::<Result<Vec<_>>>()?;
    let first = places.iter().flatten().filter(|place| !place.equal).map(|place| place.pos).min();
    let stays = |place: &Place| first.is_some_and(|first| place.pos >= first);
    places.iter_mut().for_each(|places| places.retain(stays));
    Ok(places)
}

/// Checks one intervention and lists its places, leaving out those that causality makes null.
pub(super) fn resolve(
    one: &Intervention,
    prompt: &Prompt,
    source: Option<&Prompt>,
    same_weights: bool,
    context: &Context<'_>,
) -> Result<Vec<Place>> {
    let (config, site) = (context.config, one.at.site);
    if one.at.site.is_per_layer() && one.at.layer >= config.n_layers {
        let problem = format!("the model has layers 0..{}", config.n_layers);
        return Err(refuse("layer", one.at.layer, problem, "layers count from 0"));
    }
    let n_heads = match site.head_axis() {
        Some(HeadAxis::Query) => config.n_heads,
        Some(HeadAxis::Kv) => config.n_kv_heads,
        None => 1,
    };
    let heads = match (&one.heads, site.head_axis()) {
        (Some(_), None) => {
            return Err(refuse(
                "site",
                site,
                "has no heads to select".into(),
                "leave the heads out, or use z or result",
            ));
        }
        (Some(heads), Some(axis)) => {
            if let Some(head) = heads.iter().find(|&&head| head >= n_heads) {
                let problem = format!("`{site}` has {} heads 0..{n_heads}", axis.name());
                return Err(refuse("head", format!("L{}.H{head}", one.at.layer), problem, "heads count from 0"));
            }
            heads.clone()
        }
        (None, _) => (0..n_heads).collect(),
    };
    let only_scores = matches!(one.edit, Edit::Knockout { .. } | Edit::UniformAttention);
    if only_scores && site != Site::Scores {
        let problem = format!("acts on attention scores, not on `{site}`");
        return Err(refuse("edit", one.edit.name(), problem, "use --site scores"));
    }
    if site.is_attention() && matches!(one.edit, Edit::Mean | Edit::Noise(_) | Edit::Add { .. }) {
        let problem = format!("is not defined on `{site}`, whose width is the prompt's length");
        return Err(refuse("edit", one.edit.name(), problem, "use zero, scale, patch, knockout or uniform-attention"));
    }

    let positions = prompt.positions(&one.positions, context.trial)?;
    let source = match (&one.edit, source) {
        (Edit::Patch, None) => {
            return Err(refuse(
                "edit",
                "patch",
                format!("{} has no source prompt", context.trial),
                "give each trial a `source`, or choose another edit",
            ));
        }
        (Edit::Patch, Some(source)) => {
            let name = |part: &str| format!("{} ({part})", context.trial);
            let (base, donor) = (name("base"), name("source"));
            let (_, found) = paired_positions((prompt, &base), (source, &donor), &one.positions)?;
            Some((source, found))
        }
        _ => None,
    };
    if let Some((source, _)) = &source
        && site.is_attention()
        && source.tokens.len() != prompt.tokens.len()
    {
        let problem =
            format!("{}: base has {} tokens, source {}", context.trial, prompt.tokens.len(), source.tokens.len());
        return Err(refuse("site", site, problem, "patching attention needs prompts of equal length"));
    }
    if let (Site::Scores, Some((_, found)), Some(window)) = (site, &source, config.windows[one.at.layer])
        && let Some((pos, donor)) = positions.iter().zip(found).find(|(pos, donor)| pos.abs_diff(**donor) >= window)
    {
        let problem =
            format!("{}: position {pos} sees nothing that position {donor} of the source does", context.trial);
        return Err(refuse(
            "edit",
            "patch",
            problem,
            "the layer's window is narrower: choose positions closer together",
        ));
    }

    if let Edit::Knockout { keys } = &one.edit {
        let keys = prompt.positions(keys, context.trial)?;
        let window = config.windows[one.at.layer];
        let seen = |pos: usize| window.map_or(0, |window| (pos + 1).saturating_sub(window))..=pos;
        let blind = |pos: &&usize| seen(**pos).all(|key| keys.binary_search(&key).is_ok());
        if let Some(pos) = positions.iter().find(blind) {
            let problem = format!("{}: position {pos} would have nothing left to attend to", context.trial);
            return Err(refuse("edit", "knockout", problem, "leave at least one key: choose a smaller --from"));
        }
        if !positions.iter().any(|&pos| keys.iter().any(|key| seen(pos).contains(key))) {
            let problem = format!("{}: none of the queries can see any of the keys anyway", context.trial);
            return Err(refuse("edit", "knockout", problem, "a position attends to itself and to earlier ones only"));
        }
    }

    let last = prompt.tokens.len() - 1;
    let same =
        source.as_ref().filter(|_| same_weights).map(|(source, _)| common_prefix(&prompt.tokens, &source.tokens));
    // Past the last layer's keys and values, only the position that is read reaches the logits.
    let top = site == Site::LnFinal || (site.is_per_layer() && one.at.layer + 1 == config.n_layers);
    let unread = |pos: usize| pos != last && top && !site.feeds_keys();
    let mut places = Vec::with_capacity(positions.len() * heads.len());
    for (i, &pos) in positions.iter().enumerate().filter(|(_, pos)| !unread(**pos)) {
        let source_pos = source.as_ref().map(|(_, found)| found[i]);
        // Before the prompts differ, the same weights make the same activations.
        let equal = source_pos == Some(pos) && same.is_some_and(|prefix| pos < prefix);
        places.extend(heads.iter().map(|&head| Place { pos, head, source_pos, equal }));
    }
    Ok(places)
}

/// Number of leading tokens two prompts share.
pub fn common_prefix(a: &[i64], b: &[i64]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

pub(super) fn refuse(what: &'static str, value: impl ToString, problem: String, hint: &str) -> Error {
    Error::Selector { what, value: value.to_string(), problem, hint: Some(hint.into()) }
}
