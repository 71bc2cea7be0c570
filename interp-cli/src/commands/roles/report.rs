//! What `interp roles` leaves behind: `roles.json`, `roles.csv`, `roles.npy` and a figure; and what it says.

use std::collections::BTreeSet;

use interp_core::export::{npy, table};
use interp_core::patterns::{Role, RoleScores};
use interp_core::plot::{Map, Maps};
use interp_core::scores::GridAxis;
use interp_core::site::HeadRef;
use interp_core::{Result, stats};
use serde_json::{Map as Object, Value, json};

use crate::beside::Column;
use crate::cli::RolesArgs;
use crate::folder::Partial;
use crate::output::{columns, number};

/// Everything that was found.
pub struct Report<'a> {
    pub args: &'a RolesArgs,
    /// `model` of the JSON.
    pub model: Value,
    /// `material` of the JSON.
    pub material: Value,
    pub n_layers: usize,
    pub n_heads: usize,
    pub scores: &'a RoleScores,
    pub beside: &'a [Column],
}

impl Report<'_> {
    /// Writes every file, `roles.json` last.
    pub fn write(&self, folder: &Partial) -> Result<()> {
        let values: Vec<f64> = Role::ALL.iter().flat_map(|&role| self.scores.scores(role)).collect();
        folder.put("roles.npy", &npy::encode(&[Role::ALL.len(), self.n_layers, self.n_heads], &values))?;
        folder.put("roles.csv", table::csv_of(&self.cells()).as_bytes())?;
        folder.draw("roles", &self.maps())?;
        folder.put("roles.json", self.json().as_bytes())
    }

    /// What is shown: the roles where they are possible, then the columns beside them.
    fn shown(&self) -> Vec<Column> {
        let of_role = |&role: &Role| Column {
            name: role.to_string(),
            what: "attention".into(),
            quantity: "share of attention".into(),
            values: self.scores.where_possible(role),
        };
        Role::ALL.iter().map(of_role).chain(self.beside.iter().cloned()).collect()
    }

    fn head(&self, cell: usize) -> HeadRef {
        HeadRef { layer: cell / self.n_heads, head: cell % self.n_heads }
    }

    fn cells(&self) -> Vec<Object<String, Value>> {
        let scores = Role::ALL.map(|role| (role, self.scores.scores(role), self.scores.where_possible(role)));
        let row = |cell: usize| {
            let head = self.head(cell);
            let mut row = Object::new();
            row.insert("layer".into(), json!(head.layer));
            row.insert("head".into(), json!(head.head));
            row.insert("label".into(), json!(head.to_string()));
            for (role, score, where_possible) in &scores {
                row.insert(role.to_string(), json!(score[cell]));
                row.insert(format!("{role}_where_possible"), json!(where_possible[cell]));
            }
            for (name, column) in self.names().into_iter().zip(self.beside) {
                row.insert(name, json!(column.values[cell]));
            }
            row
        };
        (0..self.n_layers * self.n_heads).map(row).collect()
    }

    /// Names of the columns beside the roles, which two folders may share.
    fn names(&self) -> Vec<String> {
        let count = |name: &str| self.beside.iter().filter(|column| column.name == name).count();
        let name = |(index, column): (usize, &Column)| match count(&column.name) {
            1 => format!("beside_{}", column.name),
            _ => format!("beside_{}_{}", column.name, index + 1),
        };
        self.beside.iter().enumerate().map(name).collect()
    }

    /// Pearson's r of every role with every column beside it, over the heads that have both.
    fn correlations(&self) -> Vec<(String, Vec<Option<f64>>)> {
        let r = |column: &Column, role: Role| {
            let scores = self.scores.where_possible(role);
            let both = column.values.iter().zip(&scores).filter(|(a, b)| a.is_finite() && b.is_finite());
            let (a, b): (Vec<f64>, Vec<f64>) = both.unzip();
            if a.is_empty() { None } else { stats::correlation(&a, &b) }
        };
        let line = |column: &Column| Role::ALL.iter().map(|&role| r(column, role)).collect();
        self.names().into_iter().zip(self.beside.iter().map(line)).collect()
    }

    /// `roles.json`.
    pub fn json(&self) -> String {
        let definitions: Object<String, Value> = [
            ("previous_token", "src = dest - 1"),
            ("duplicate_token", "src < dest, token[src] = token[dest]"),
            ("induction", "0 < src <= dest, token[src - 1] = token[dest]"),
            ("score", "attention on such src / all attention; mean over prompts"),
            ("where_possible", "attention on such src / destinations that have one; mean over prompts that have such"),
        ]
        .into_iter()
        .map(|(name, what)| (name.to_owned(), json!(what)))
        .collect();
        let beside: Vec<Value> = self
            .names()
            .iter()
            .zip(self.beside)
            .zip(self.correlations())
            .map(|((name, column), (_, r))| {
                let r: Object<String, Value> =
                    Role::ALL.iter().zip(r).map(|(role, r)| (role.to_string(), json!(r))).collect();
                json!({ "column": name, "what": column.what, "r": r })
            })
            .collect();
        let head = json!({
            "schema": "interp.roles/1",
            "index_base": 0,
            "head_axis": "query",
            "model": self.model,
            "material": self.material,
            "definitions": definitions,
            "beside": beside,
            "tool_version": env!("CARGO_PKG_VERSION"),
        });
        table::with_cells(&head, self.cells())
    }

    /// The heads that are largest in any column, and how the columns go together.
    pub fn tables(&self) -> String {
        let shown = self.shown();
        let mut listed = BTreeSet::new();
        for column in &shown {
            let order = stats::ranking(&column.values);
            listed.extend(order.into_iter().filter(|&cell| column.values[cell].is_finite()).take(self.args.top));
        }
        let head: Vec<String> =
            std::iter::once("head".to_owned()).chain(shown.iter().map(|column| column.name.clone())).collect();
        let row = |cell: usize| -> Vec<String> {
            let values = shown.iter().map(|column| number(column.values[cell]));
            std::iter::once(self.head(cell).to_string()).chain(values).collect()
        };
        let rows: Vec<Vec<String>> = listed.into_iter().map(row).collect();
        let mut text = format!("{} prompts; attention where the role is possible\n", self.scores.n_prompts());
        text += &columns(&head, &rows);
        if !self.beside.is_empty() {
            let head: Vec<String> =
                std::iter::once("r over heads".to_owned()).chain(Role::ALL.map(|role| role.to_string())).collect();
            let line = |(name, r): (String, Vec<Option<f64>>)| -> Vec<String> {
                std::iter::once(name).chain(r.into_iter().map(|r| number(r.unwrap_or(f64::NAN)))).collect()
            };
            text += &columns(&head, &self.correlations().into_iter().map(line).collect::<Vec<_>>());
        }
        text
    }

    fn maps(&self) -> Maps {
        let model = self.model["checkpoint"].as_str().unwrap_or_default();
        let axes = || vec![GridAxis::layers(0..self.n_layers), GridAxis::heads(0..self.n_heads)];
        let map = |(index, column): (usize, Column)| Map {
            title: column.name,
            axes: axes(),
            values: column.values,
            below_floor: None,
            muted: None,
            outlined: Vec::new(),
            // The roles are all shares of attention; what stands beside them has units of its own.
            scale: (index + 1).saturating_sub(Role::ALL.len()),
        };
        let mut maps: Vec<Map> = self.shown().into_iter().enumerate().map(map).collect();
        let beside = maps.split_off(Role::ALL.len());
        let mut scales = vec!["share of attention".to_owned()];
        scales.extend(self.beside.iter().map(|column| column.quantity.clone()));
        Maps {
            title: "What heads look at".into(),
            subtitle: format!("{model}: {} prompts, where the role is possible", self.scores.n_prompts()),
            scales,
            rows: [maps, beside].into_iter().filter(|row| !row.is_empty()).collect(),
        }
    }
}
