//! Processes as data: steps, roles, edges, exceptions, and the words that may fill them. Checked whole when they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// A kind of work with rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Of its own in all files.
    pub id: String,
    /// What it is about; may name `{slots}`.
    pub title: String,
    /// Where such rules are found.
    pub source: String,
    /// Field of work: the file's name.
    #[serde(skip)]
    pub domain: String,
    /// Role to the words that may stand for it.
    pub roles: BTreeMap<String, Vec<String>>,
    /// All roles, the lowest authority first.
    pub ranks: Vec<String>,
    /// Slot to the words that may fill it.
    pub slots: BTreeMap<String, Vec<String>>,
    /// Steps in the order of the procedure.
    pub steps: Vec<Step>,
    /// What changes the obligations.
    #[serde(default)]
    pub exceptions: Vec<Exception>,
}

/// One step.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Of its own in the process.
    pub id: String,
    /// Who does it.
    pub role: String,
    /// In the procedure: `labels the {vessel}`.
    pub does: String,
    /// In a scenario: `labelled the {vessel}`.
    pub did: String,
    /// The same, the other way round: `the {vessel} was labelled`.
    pub was: String,
    /// The same in other words.
    pub reworded: Vec<String>,
    /// Steps that come earlier where both are done.
    #[serde(default)]
    pub after: Vec<String>,
    /// Steps without which this one may not be done.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Need not be done.
    #[serde(default)]
    pub optional: bool,
    /// Cannot be seen from outside, so that its absence cannot either.
    #[serde(default)]
    pub unobservable: bool,
    /// A higher rank may do it too; a lower one may not.
    #[serde(default)]
    pub authority: bool,
}

/// A fact that replaces a step by another act.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Of its own in the process.
    pub id: String,
    /// In the procedure: `the {vessel} leaks`.
    #[serde(rename = "if")]
    pub condition: String,
    /// In a scenario: `the {vessel} leaked`.
    pub fact: String,
    /// The step that may then not be done.
    pub instead_of: String,
    /// Who acts instead.
    pub role: String,
    /// In the procedure: `calls the warden`.
    pub does: String,
    /// In a scenario: `called the warden`.
    pub did: String,
    /// The same, the other way round.
    pub was: String,
    /// The same in other words.
    pub reworded: Vec<String>,
}

/// One choice of words for all roles and slots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// Role to word.
    pub roles: BTreeMap<String, String>,
    /// Slot to word.
    pub slots: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    process: Vec<Process>,
}

/// Processes of a TOML text. `path` is for errors, and its stem is the domain.
pub fn processes(path: &Path, text: &str) -> Result<Vec<Process>> {
    let refuse = |problem: String, hint: &str| Error::File { path: path.into(), problem, hint: Some(hint.into()) };
    let file: File = toml::from_str(text).map_err(|error| {
        refuse(
            error.to_string().trim_end().into(),
            "README.md shows what a process file holds, under `Procedural compliance`",
        )
    })?;
    let domain = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut seen = BTreeSet::new();
    let mut all = file.process;
    for (at, process) in all.iter_mut().enumerate() {
        process.domain = domain.to_string();
        if !seen.insert(process.id.clone()) {
            return Err(refuse(format!("process id `{}` stands twice", process.id), "give every process its own id"));
        }
        process.check().map_err(|(field, problem, hint)| Error::Field {
            path: path.into(),
            field: format!("process[{at}] ({}).{field}", process.id),
            problem,
            hint: Some(hint.into()),
        })?;
    }
    Ok(all)
}

/// Field, problem, remedy.
type Fault = (String, String, &'static str);

impl Process {
    /// The step of that id.
    pub fn step(&self, id: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.id == id)
    }

    /// Rank of a role, 0 the lowest. Checked processes name every role.
    pub fn rank(&self, role: &str) -> Option<usize> {
        self.ranks.iter().position(|one| one == role)
    }

    /// Every choice of words, in order.
    pub fn bindings(&self) -> Vec<Binding> {
        let start = vec![Binding { roles: BTreeMap::new(), slots: BTreeMap::new() }];
        let roles = self.roles.iter().fold(start, |all, (role, words)| {
            let with = |binding: &Binding, word: &String| {
                let mut binding = binding.clone();
                binding.roles.insert(role.clone(), word.clone());
                binding
            };
            all.iter().flat_map(|binding| words.iter().map(move |word| with(binding, word))).collect()
        });
        self.slots.iter().fold(roles, |all, (slot, words)| {
            let with = |binding: &Binding, word: &String| {
                let mut binding = binding.clone();
                binding.slots.insert(slot.clone(), word.clone());
                binding
            };
            all.iter().flat_map(|binding| words.iter().map(move |word| with(binding, word))).collect()
        })
    }

    /// Edges `(earlier, later)` of both kinds, as indices of steps.
    pub fn edges(&self) -> Vec<(usize, usize)> {
        let mut edges = Vec::new();
        for (later, step) in self.steps.iter().enumerate() {
            for id in step.after.iter().chain(&step.needs) {
                let edge = self.step(id).map(|earlier| (earlier, later));
                edges.extend(edge.filter(|edge| !edges.contains(edge)));
            }
        }
        edges
    }

    fn check(&self) -> std::result::Result<(), Fault> {
        let fault = |field: &str, problem: String, hint| Err((field.to_owned(), problem, hint));
        let role_hint = "name one of the process' roles";
        if self.steps.is_empty() {
            return fault("steps", "there are none".into(), "write at least one [[process.steps]]");
        }
        for (field, words) in self.roles.iter().chain(&self.slots) {
            if words.is_empty() {
                return fault(field, "has no word".into(), "give every role and slot at least one word");
            }
        }
        let words: Vec<&String> = self.roles.values().chain(self.slots.values()).flatten().collect();
        if let Some(word) = words.iter().enumerate().find(|(i, word)| words[..*i].contains(word)).map(|(_, word)| word)
        {
            let problem = format!("the word {word:?} stands twice, so that a sentence would not say what it means");
            return fault("roles", problem, "give every role and slot words of its own");
        }
        let (mut ranks, roles): (Vec<&String>, Vec<&String>) =
            (self.ranks.iter().collect(), self.roles.keys().collect());
        ranks.sort();
        if ranks != roles {
            return fault("ranks", format!("{:?}, and the roles are {roles:?}", self.ranks), "rank every role once");
        }
        let mut seen = BTreeSet::new();
        for (at, step) in self.steps.iter().enumerate() {
            let field = |name: &str| format!("steps[{at}].{name}");
            if !seen.insert(&step.id) {
                return fault(&field("id"), format!("{:?} stands twice", step.id), "give every step its own id");
            }
            if !self.roles.contains_key(&step.role) {
                return fault(&field("role"), format!("{:?} is no role", step.role), role_hint);
            }
            for id in step.after.iter().chain(&step.needs) {
                if self.step(id).is_none() {
                    return fault(&field("after"), format!("{id:?} is no step"), "name the ids of other steps");
                }
            }
            self.check_words(&field(""), [&step.does, &step.did, &step.was].into_iter().chain(&step.reworded))?;
        }
        for (at, exception) in self.exceptions.iter().enumerate() {
            let field = |name: &str| format!("exceptions[{at}].{name}");
            if !self.roles.contains_key(&exception.role) {
                return fault(&field("role"), format!("{:?} is no role", exception.role), role_hint);
            }
            let Some(replaced) = self.step(&exception.instead_of) else {
                let problem = format!("{:?} is no step", exception.instead_of);
                return fault(&field("instead_of"), problem, "name the id of a step");
            };
            if self.steps.iter().any(|step| step.needs.contains(&self.steps[replaced].id)) {
                let problem = format!("{:?} is needed by another step", exception.instead_of);
                return fault(&field("instead_of"), problem, "replace a step that none needs");
            }
            let texts = [&exception.condition, &exception.fact, &exception.does, &exception.did, &exception.was];
            self.check_words(&field(""), texts.into_iter().chain(&exception.reworded))?;
        }
        match self.cycle() {
            Some(ids) => {
                fault("steps", format!("precedence runs in a circle: {}", ids.join(" before ")), "take one edge out")
            }
            None => Ok(()),
        }
    }

    fn check_words<'a>(&self, field: &str, texts: impl Iterator<Item = &'a String>) -> std::result::Result<(), Fault> {
        for text in texts {
            for slot in slots_of(text) {
                if !self.slots.contains_key(slot) {
                    let problem = format!("{text:?} names {{{slot}}}, which is no slot");
                    return Err((field.trim_end_matches('.').into(), problem, "name one of the process' slots"));
                }
            }
            if text.trim().is_empty() {
                return Err((field.trim_end_matches('.').into(), "an empty text".into(), "write what is done"));
            }
        }
        Ok(())
    }

    /// Ids along a circle of edges, the first again at the end.
    fn cycle(&self) -> Option<Vec<String>> {
        let edges = self.edges();
        let mut left: Vec<usize> = (0..self.steps.len()).collect();
        // What nothing precedes is taken away until nothing is left, or only circles and what follows them.
        while let Some(i) =
            left.iter().position(|&step| !edges.iter().any(|&(from, to)| to == step && left.contains(&from)))
        {
            left.remove(i);
        }
        let mut path = vec![*left.first()?];
        loop {
            let step = path[path.len() - 1];
            let before = edges.iter().find(|&&(from, to)| to == step && left.contains(&from))?.0;
            path.push(before);
            if let Some(start) = path[..path.len() - 1].iter().position(|&one| one == before) {
                return Some(path[start..].iter().rev().map(|&one| self.steps[one].id.clone()).collect());
            }
        }
    }
}

impl Binding {
    /// `text` with its slots filled.
    pub fn fill(&self, text: &str) -> String {
        self.slots.iter().fold(text.to_owned(), |text, (slot, word)| text.replace(&format!("{{{slot}}}"), word))
    }

    /// The word of a role.
    pub fn actor(&self, role: &str) -> &str {
        &self.roles[role]
    }
}

/// Names between braces.
pub fn slots_of(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}
