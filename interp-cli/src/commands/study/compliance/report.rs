//! `report.md` and the files beside it: tables of endpoints and heads, `study.json`, and figures. Computes nothing.

mod figures;
mod table;

use anyhow::Result;
use interp_core::compliance::metrics::{By, Delta, Endpoint, Estimate, Share};
use interp_core::export::table as files;
use interp_core::scores::cell_label;
use interp_core::site::HeadRef;
use serde_json::{Map, Value, json};

use self::table::{Table, interval, number, percent, points, probability};
use super::answers::Regime;
use super::cases::Cases;
use super::checkpoints::Checkpoint;
use super::endpoints::{Alone, Endpoints, Paired};
use super::heads::{ABLATION, ATTENTION, FEW, Heads, Row};
use super::place::Place;
use crate::cli::StudyComplianceArgs;

/// Everything that is reported.
pub struct Report<'a> {
    pub args: &'a StudyComplianceArgs,
    pub checkpoints: &'a [Checkpoint],
    pub cases: &'a Cases,
    pub endpoints: &'a Endpoints,
    pub heads: &'a Heads,
}

impl Report<'_> {
    /// Writes every file, `report.md` last.
    pub fn write(&self, place: &Place) -> Result<()> {
        let endpoints: Vec<Map<String, Value>> = self.endpoints.alone.iter().flat_map(endpoint_lines).collect();
        place.put("endpoints.csv", files::csv_of(&endpoints).as_bytes())?;
        let contrasts: Vec<Map<String, Value>> = self.endpoints.paired.iter().flat_map(contrast_lines).collect();
        place.put("contrasts.csv", files::csv_of(&contrasts).as_bytes())?;
        let heads: Vec<Map<String, Value>> = self.heads.rows.iter().map(Row::map).collect();
        place.put("heads.csv", files::csv_of(&heads).as_bytes())?;
        figures::write(self, place)?;
        let arm = |arm: &super::heads::Arm| json!({ "checkpoint": arm.name, "valid_pairs": arm.valid.len(), "swept_pairs": arm.used.len() });
        let study = json!({
            "schema": "interp.compliance-study/1",
            "found": self.endpoints.found(),
            "settings": place.settings,
            "n_cases": self.cases.records.len(),
            "warnings": self.cases.warnings,
            "checkpoints": self.endpoints.alone,
            "contrasts": self.endpoints.paired,
            "mediation": {
                "flip_pairs": self.heads.flips,
                "checkpoints": self.heads.arms.iter().map(arm).collect::<Vec<_>>(),
                "named": self.heads.named.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "named_how": self.heads.how,
                "heads": heads,
                "notes": self.heads.notes,
            },
            "index_base": 0,
            "tool_version": env!("CARGO_PKG_VERSION"),
        });
        place.put("study.json", format!("{study:#}\n").as_bytes())?;
        place.put("report.md", self.text().as_bytes())?;
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        self.checkpoints.iter().map(|one| one.name.clone()).collect()
    }

    fn text(&self) -> String {
        let (cases, names) = (self.cases, self.names());
        let processes: std::collections::BTreeSet<&str> =
            cases.records.iter().map(|record| record.process_id.as_str()).collect();
        let penalties: Vec<String> =
            self.checkpoints.iter().map(|one| format!("{} {}", one.name, one.options.repetition_penalty)).collect();
        let mut text = format!("{}\n\n# Compliance contrast: {}\n\n", self.endpoints.found().said, names.join(", "));
        text += &format!(
            "{} cases of {} processes, {} pairs. Free-form answers are greedy, at most {} tokens, mode `{}` (repetition penalty: {}); forced \
             answers compare the likelihoods of the two words behind `FINAL ANSWER:`. Intervals are 95 %: Wilson's for shares, and over \
             resampled processes for all else. Unparsed answers are wrong.\n",
            cases.records.len(),
            processes.len(),
            cases.pairs.len(),
            self.args.max_new_tokens,
            self.args.mode,
            penalties.join(", "),
        );
        cases.warnings.iter().for_each(|warning| text += &format!("\nWarning: {warning}\n"));
        for regime in Regime::ALL {
            text += &format!("\n## Answers, {}\n", regime.name());
            text += &self.overview(regime);
            for (by, title) in [
                (By::Perturbation, "Accuracy by perturbation"),
                (By::Cohort, "Accuracy by cohort"),
                (By::Domain, "Accuracy by domain"),
                (By::Gold, "Accuracy by label"),
            ] {
                text += &format!("\n### {title}\n\n{}", self.by(regime, by));
            }
            text += &format!("\n### Pairs, gaps, reliance\n\n{}", self.pairs(regime));
            text += &format!("\n### Differences\n\n{}", self.differences(regime));
        }
        text + &self.mechanism()
    }

    fn overview(&self, regime: Regime) -> String {
        let mut table = Table::new(&[
            "checkpoint",
            "accuracy",
            "balanced",
            "says compliant",
            "unparsed",
            "truncated",
            "tokens before the verdict",
        ]);
        for name in self.names() {
            let (Some(alone), Some(all)) =
                (self.endpoints.of(&name, regime), self.endpoints.row(&name, regime, By::All, "all"))
            else {
                continue;
            };
            let reasoning = alone
                .reasoning
                .map_or("-".into(), |one| one.mean.value.map_or("-".into(), |mean| format!("{mean:.1}")));
            table.row([
                name,
                share(&all.accuracy),
                estimate(&all.balanced, percent),
                share(&all.positive),
                share(&all.unparsed),
                share(&all.truncated),
                reasoning,
            ]);
        }
        format!("\n{table}")
    }

    /// A row per value, a column per checkpoint.
    fn by(&self, regime: Regime, by: By) -> String {
        let names = self.names();
        let first = self.endpoints.of(&names[0], regime);
        let values = first.into_iter().flat_map(|one| &one.endpoints).filter(|row| row.by == by);
        let head: Vec<String> = ["", "cases", "majority"].map(String::from).into_iter().chain(names.clone()).collect();
        let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
        for row in values {
            let of = |name: &String| {
                self.endpoints
                    .row(name, regime, by, &row.value)
                    .map_or("-".into(), |one: &Endpoint| share(&one.accuracy))
            };
            let majority = row.endpoint.majority.map_or("-".into(), percent);
            let cells = [row.value.clone(), row.endpoint.accuracy.n.to_string(), majority];
            table.row(cells.into_iter().chain(names.iter().map(of)));
        }
        table.to_string()
    }

    fn pairs(&self, regime: Regime) -> String {
        let names = self.names();
        let head: Vec<&str> = std::iter::once("").chain(names.iter().map(String::as_str)).collect();
        let mut table = Table::new(&head);
        let alone: Vec<&Alone> = names.iter().filter_map(|name| self.endpoints.of(name, regime)).collect();
        let metrics = alone.first().map_or(0, |one| one.pairs.len());
        for metric in 0..metrics {
            let row = &alone[0].pairs[metric];
            if row.share.n == 0 {
                continue;
            }
            let label = format!("{} ({} pairs or halves)", row.metric.name(), row.share.n);
            table.row(std::iter::once(label).chain(alone.iter().map(|one| share(&one.pairs[metric].share))));
        }
        let row = |label: &str, of: &dyn Fn(&Alone) -> String| -> Vec<String> {
            std::iter::once(label.to_owned()).chain(alone.iter().map(|one| of(one))).collect()
        };
        table.row(row("surface gap (points)", &|one| estimate(&one.gaps.surface, points)));
        table.row(row("order gap (points)", &|one| estimate(&one.gaps.order, points)));
        table.row(row("procedure reliance (points)", &|one| one.reliance.as_ref().map_or("-".into(), delta)));
        table.to_string()
    }

    fn differences(&self, regime: Regime) -> String {
        let mut text = String::new();
        for pair in self.endpoints.paired.iter().filter(|pair| pair.regime == regime.name()) {
            text += &format!("{} − {}, in points, on the same cases:\n\n", pair.first, pair.second);
            let mut table =
                Table::new(&["", "n", "Δ", "only the first is right", "only the second", "McNemar p", "within ±5"]);
            for (label, one) in deltas(pair) {
                let equal = one.equivalence.map_or("-", |equal| if equal.holds { "yes" } else { "no" });
                let [only, other] = [one.only_first, one.only_second].map(|n| n.to_string());
                table.row([
                    label,
                    one.n.to_string(),
                    delta(one),
                    only,
                    other,
                    probability(one.mcnemar_p),
                    equal.into(),
                ]);
            }
            text += &format!("{table}\n");
            let gaps = &pair.comparison.gaps;
            let longer = estimate(&pair.comparison.reasoning, |x| format!("{x:+.1}"));
            text += &format!(
                "Surface gap {}, order gap {}, tokens before the verdict {longer}. Ceilings on the training distribution {}.\n\n",
                estimate(&gaps.surface, points),
                estimate(&gaps.order, points),
                match pair.ceilings.overlap {
                    Some([low, high]) => format!("overlap: {} to {}", percent(low), percent(high)),
                    None => "do not overlap".into(),
                },
            );
        }
        text
    }

    fn mechanism(&self) -> String {
        let heads = self.heads;
        let mut text = String::from("\n## Heads\n\n");
        text += "Procedural causal mediation: the output of one head at the last position of the forced prompt is replaced by that of the same \
                 head on the other half of the flip pair; δ is how much the logit difference of the two words falls. Only pairs of which \
                 the checkpoint gets both halves right in forced mode count, in both directions; intervals and tests go by process.\n\n";
        let mut table =
            Table::new(&["checkpoint", "flip pairs", "valid", "swept", "significant heads", "strongest head"]);
        for arm in &heads.arms {
            let (mut significant, mut strongest) = ("-".to_owned(), "-".to_owned());
            if let Some(study) = &arm.study
                && let Ok(summary) = study.summary(0, &study.bootstrap)
            {
                significant = summary.test.count().map_or("not tested".into(), |(n, of)| format!("{n} of {of}"));
                let cell = summary.order[0];
                let label = cell_label(&study.layout.axes, cell);
                let stats = &summary.cells[cell];
                strongest = format!("{label} {} {}", number(stats.mean), interval(stats.ci, number));
            }
            let [valid, used] = [arm.valid.len(), arm.used.len()].map(|n| n.to_string());
            table.row([arm.name.clone(), heads.flips.to_string(), valid, used, significant, strongest]);
        }
        text += &format!("{table}\n");
        for arm in heads.arms.iter().filter(|arm| arm.valid.len() < FEW) {
            text += &format!("Note: {} has {} valid pairs, fewer than {FEW}.\n\n", arm.name, arm.valid.len());
        }
        heads.notes.iter().for_each(|note| text += &format!("Note: {note}\n\n"));
        for one in &heads.changes {
            let names: Vec<&str> = one.contrast.arms().iter().map(|arm| arm.name.as_str()).collect();
            let order = one.contrasted.ranking(1);
            let changed = order.iter().filter(|&&cell| one.contrasted.changes[0][cell].changed).count();
            let listed = order.iter().take(3).map(|&cell| {
                let change = &one.contrasted.changes[0][cell];
                let label = cell_label(&one.contrast.layout().axes, cell);
                format!("{label} {} {}", number(change.stats.mean), interval(change.stats.ci, number))
            });
            text += &format!(
                "{} − {} (`{}`): over {} trials of pairs that both get right, {changed} of {} heads changed (q < 0.05, above both \
                 noise floors); largest: {}.\n\n",
                names[1],
                names[0],
                one.folder,
                one.contrast.n_trials(),
                order.len(),
                listed.collect::<Vec<_>>().join("; "),
            );
        }
        let labels: Vec<String> = heads.named.iter().map(ToString::to_string).collect();
        if labels.is_empty() {
            return text + "No head is named: no checkpoint has a valid pair.\n";
        }
        text += &format!("### Named heads: {} ({})\n\n", labels.join(", "), heads.how);
        let tables = [self.effects(), self.ablation(), self.attention()];
        text + &tables.map(|table| format!("{table}\n")).concat()
    }

    /// Lines of the named heads that have a test.
    fn effects(&self) -> String {
        let mut table =
            Table::new(&["measure", "checkpoint", "other", "head", "trials", "mean", "95 % interval", "p", "rank"]);
        for row in self.heads.rows.iter().filter(|row| row.measure != ATTENTION && !ABLATION.contains(&row.measure)) {
            table.row([
                row.measure.into(),
                row.checkpoint.clone(),
                row.other.clone().unwrap_or_else(|| "-".into()),
                row.head.to_string(),
                row.n_trials.to_string(),
                number(row.mean),
                interval(row.ci, number),
                row.p.map_or("-".into(), probability),
                row.rank.map_or("-".into(), |rank| rank.to_string()),
            ]);
        }
        format!(
            "{table}\nAll in logits. `mediation`: δ as above, tested over the whole grid. `change of mediation`: δ less that of `other` \
             over the pairs that both get right, with the head's own p. `gain by graft`: what the adapter's part of this head alone adds \
             to the base. `patch across`: δ when the head's output comes from `other` on the same prompt. The last two are tested over \
             the whole grid, two-sided.\n"
        )
    }

    /// A line per checkpoint and named head.
    fn ablation(&self) -> String {
        let head = ["accuracy lost", "beside the layer's others", "logit difference lost", "beside the layer's others"];
        let mut table = Table::new(&[&["checkpoint", "head", "trials"][..], &head].concat());
        for (checkpoint, head) in self.each() {
            let found = ABLATION.map(|measure| self.heads.found(measure, &checkpoint, head, None));
            let Some(first) = found[0] else { continue };
            let said = |row: Option<&Row>, said: fn(f64) -> String| {
                row.map_or("-".into(), |row| format!("{} {}", said(row.mean), interval(row.ci, said)))
            };
            let [accuracy, beside, logits, logits_beside] = found;
            table.row([
                checkpoint.clone(),
                head.to_string(),
                first.n_trials.to_string(),
                said(accuracy, points),
                said(beside, points),
                said(logits, number),
                said(logits_beside, number),
            ]);
        }
        format!(
            "Ablation (the head's output zeroed at all positions), accuracy between the two words in points:\n\n{table}"
        )
    }

    /// A line per checkpoint and named head, a column per section.
    fn attention(&self) -> String {
        let sections = ["procedure", "scenario", "question", "first", "rest"];
        let mut table = Table::new(&[&["checkpoint", "head", "trials"][..], &sections].concat());
        for (checkpoint, head) in self.each() {
            let found = sections.map(|section| self.heads.found(ATTENTION, &checkpoint, head, Some(section)));
            let Some(first) = found[0] else { continue };
            let said = |row: Option<&Row>| {
                row.map_or("-".into(), |row| format!("{} {}", percent(row.mean), interval(row.ci, percent)))
            };
            let cells = [checkpoint.clone(), head.to_string(), first.n_trials.to_string()];
            table.row(cells.into_iter().chain(found.map(said)));
        }
        format!("Attention from the last position of the forced prompt (`first`: the first token):\n\n{table}")
    }

    fn each(&self) -> Vec<(String, HeadRef)> {
        let heads = &self.heads.named;
        self.names().into_iter().flat_map(|name| heads.iter().map(move |head| (name.clone(), *head))).collect()
    }
}

/// Deltas of a pair with their labels.
fn deltas(pair: &Paired) -> Vec<(String, &Delta)> {
    let mut deltas = vec![("training distribution".to_owned(), &pair.training)];
    let rows = pair.comparison.rows.iter().filter(|row| row.by != By::Domain);
    deltas.extend(rows.map(|row| (row.value.clone(), &row.delta)));
    deltas.extend(pair.pairs.iter().map(|row| (row.metric.name().to_owned(), &row.delta)));
    deltas.into_iter().filter(|(_, one)| one.n > 0).collect()
}

fn share(share: &Share) -> String {
    match (share.share, share.wilson) {
        (Some(value), Some([low, high])) => format!("{} [{}, {}]", percent(value), percent(low), percent(high)),
        _ => "-".into(),
    }
}

fn estimate(estimate: &Estimate, said: impl Fn(f64) -> String) -> String {
    estimate.value.map_or("-".into(), |value| format!("{} {}", said(value), interval(estimate.ci, said)))
}

fn delta(delta: &Delta) -> String {
    delta.delta.map_or("-".into(), |value| format!("{} {}", points(value), interval(delta.ci, points)))
}

fn endpoint_lines(alone: &Alone) -> Vec<Map<String, Value>> {
    let line = |by: String, value: String, n: usize, one: f64, wilson: Option<[f64; 2]>, ci: Option<[f64; 2]>| {
        let line = json!({ "checkpoint": alone.checkpoint, "regime": alone.regime, "by": by, "value": value, "n": n, "share": one,
            "wilson": wilson, "ci": ci });
        line.as_object().cloned().unwrap_or_default()
    };
    let of = |by: String, value: &str, share: &Share| {
        line(by, value.into(), share.n, share.share.unwrap_or(f64::NAN), share.wilson, share.clustered)
    };
    let by = |by: By| json!(by).as_str().unwrap_or_default().to_owned();
    let endpoints = alone.endpoints.iter().map(|row| of(by(row.by), &row.value, &row.endpoint.accuracy));
    let pairs = alone.pairs.iter().map(|row| of("pairs".into(), row.metric.name(), &row.share));
    let gaps = [("surface gap", &alone.gaps.surface), ("order gap", &alone.gaps.order)];
    let gaps = gaps
        .into_iter()
        .map(|(name, one)| line("gap".into(), name.into(), one.n, one.value.unwrap_or(f64::NAN), None, one.ci));
    let reliance = alone
        .reliance
        .iter()
        .map(|one| line("gap".into(), "procedure reliance".into(), one.n, one.delta.unwrap_or(f64::NAN), None, one.ci));
    endpoints.chain(pairs).chain(gaps).chain(reliance).collect()
}

fn contrast_lines(pair: &Paired) -> Vec<Map<String, Value>> {
    let line = |(value, one): (String, &Delta)| {
        let line = json!({ "first": pair.first, "second": pair.second, "regime": pair.regime, "value": value, "n": one.n,
            "delta": one.delta, "ci": one.ci, "only_first": one.only_first, "only_second": one.only_second,
            "mcnemar_p": one.mcnemar_p, "within_margin": one.equivalence.map(|equal| equal.holds) });
        line.as_object().cloned().unwrap_or_default()
    };
    deltas(pair).into_iter().map(line).collect()
}
