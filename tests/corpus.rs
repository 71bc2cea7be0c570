//! The compliance corpus: labels follow from texts alone, every perturbation is what it says, cohorts keep apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use interp_core::compliance::builtin::{builtin_phrases, builtin_processes, phrases};
use interp_core::compliance::corpus::{Corpus, CorpusSpec, corpus};
use interp_core::compliance::narrate::{Setting, likeness};
use interp_core::compliance::process::{Binding, Process, processes};
use interp_core::compliance::rules::{Event, Violation, What, violations};
use interp_core::compliance::words::procedure;
use interp_core::compliance::{Gold, PairKind, Perturbation, Record};
use serde_json::Value;

use crate::common::interp;

static MADE: LazyLock<Corpus> = LazyLock::new(|| make(3000, 1500, 0));

fn make(n_train: usize, n_test: usize, seed: u64) -> Corpus {
    let (processes, phrases) = (builtin_processes().unwrap(), builtin_phrases().unwrap());
    corpus(&CorpusSpec { processes, phrases, n_train, n_test, seed }, &|_| Ok(None)).unwrap()
}

fn all() -> impl Iterator<Item = &'static Record> {
    MADE.train.iter().chain(&MADE.test)
}

/// A process in which every rule can be broken.
const DRUM: &str = r#"
[[process]]
id = "drum"
title = "the {vessel}"
source = "test"
roles = { worker = ["student"], checker = ["officer"], head = ["warden"] }
ranks = ["worker", "checker", "head"]
slots = { vessel = ["drum", "flask"] }

[[process.steps]]
id = "vent"
role = "worker"
does = "starts the fan"
did = "started the fan"
was = "the fan was started"
reworded = ["switched on the fan"]
optional = true

[[process.steps]]
id = "open"
role = "worker"
does = "opens the {vessel}"
did = "opened the {vessel}"
was = "the {vessel} was opened"
reworded = ["uncapped the {vessel}"]
needs = ["vent"]

[[process.steps]]
id = "label"
role = "worker"
does = "writes a label"
did = "wrote a label"
was = "a label was written"
reworded = ["made a tag"]

[[process.steps]]
id = "sign"
role = "checker"
does = "signs the log"
did = "signed the log"
was = "the log was signed"
reworded = ["initialled the book"]
after = ["open", "label"]
authority = true

[[process.exceptions]]
id = "leak"
if = "the {vessel} leaks"
fact = "the {vessel} leaked"
instead_of = "label"
role = "checker"
does = "calls for help"
did = "called for help"
was = "help was called"
reworded = ["asked for aid"]
"#;

fn drum() -> Process {
    processes(Path::new("test.toml"), DRUM).unwrap().remove(0)
}

/// Events in shorthand: a step's number with its role's rank, `f` the fact, `i` the act instead.
fn events(process: &Process, told: &[&str]) -> Vec<Event> {
    let event = |text: &&str| {
        let (what, rank) = text.split_at(1);
        let what = match what {
            "f" => What::Fact(0),
            "i" => What::Instead(0),
            step => What::Step(step.parse::<usize>().unwrap() - 1),
        };
        let role = rank.parse::<usize>().map(|rank| process.ranks[rank].clone()).unwrap_or_default();
        Event { what, role, other_words: None }
    };
    told.iter().map(event).collect()
}

#[test]
fn every_rule_can_be_kept_and_broken() {
    use Violation::*;
    let process = drum();
    let table: [(&[&str], &[Violation]); 17] = [
        (&["10", "20", "30", "41"], &[]),
        (&["30", "10", "20", "41"], &[]),
        (&["10", "20", "30", "42"], &[]),
        (&["20", "30", "41"], &[Needs(0, 1)]),
        (&["20", "10", "30", "41"], &[Order(0, 1)]),
        (&["10", "20", "41"], &[Missing(2)]),
        (&["10", "20", "30"], &[Missing(3)]),
        (&["10", "20", "41", "30"], &[Order(2, 3)]),
        (&["10", "41", "20", "30"], &[Order(1, 3), Order(2, 3)]),
        (&["10", "20", "30", "40"], &[Authority(3)]),
        (&["10", "20", "31", "41"], &[Actor(2)]),
        (&["f", "10", "20", "i1", "41"], &[]),
        (&["f", "10", "20", "30", "41"], &[Exception(0)]),
        (&["f", "10", "20", "30", "i1", "41"], &[Exception(0)]),
        (&["f", "10", "20", "i0", "41"], &[Exception(0)]),
        // What was done before the fact stands.
        (&["30", "f", "10", "20", "41"], &[]),
        // The order of a step that is replaced says nothing any more.
        (&["f", "10", "20", "41", "i1"], &[]),
    ];
    for (told, expected) in table {
        assert_eq!(violations(&process, &events(&process, told)), expected, "{told:?}");
    }
    let mut other = events(&process, &["10", "20", "30", "41"]);
    other[1].other_words = process.bindings().pop();
    assert_eq!(violations(&process, &other), [Object(1)]);
}

#[test]
fn a_text_says_what_it_was_written_from() {
    let process = drum();
    let bindings = process.bindings();
    let setting = Setting { process: &process, binding: &bindings[0] };
    assert_eq!(
        procedure(&process, &bindings[0]),
        "The drum.\n1. Optionally, the student starts the fan.\n2. The student opens the drum, only if 1 was done before.\n\
         3. The student writes a label.\n4. The officer or above signs the log, after 2 and 3.\n\
         If the drum leaks, the officer calls for help instead of 3.\nRanks from low to high: student, officer, warden."
    );
    let say = |text: &str| setting.violations_of_text(text, &["Per protocol, ".into()]);
    let whole = "The student started the fan. The drum was opened by the student. Rain fell! Per protocol, the student made a \
                 tag. The book fell down. The log was signed by the officer.";
    assert_eq!(say(whole), []);
    assert_eq!(say(&whole.replace("drum was", "flask was")), [Violation::Object(1)]);
    assert_eq!(say(&whole.replace("by the officer", "by the student")), [Violation::Authority(3)]);
    assert_eq!(say(&whole.replace("the student made a tag", "the student ate a tag")), [Violation::Missing(2)]);
}

#[test]
fn labels_follow_from_the_texts() {
    let processes = builtin_processes().unwrap();
    assert!(processes.len() >= 40, "{}", processes.len());
    let phrases = builtin_phrases().unwrap();
    let prefixes: Vec<String> =
        phrases.cues.compliance_prefix.iter().chain(&phrases.cues.violation_prefix).cloned().collect();
    // The words of a case are found from its procedure's text alone.
    let known: BTreeMap<String, (&Process, Binding)> = processes
        .iter()
        .flat_map(|process| process.bindings().into_iter().map(move |one| (procedure(process, &one), (process, one))))
        .collect();
    let mut agree = 0;
    for record in all() {
        let (process, binding) = &known[&record.procedure];
        assert_eq!(process.id, record.process_id);
        let found = Setting { process, binding }.violations_of_text(&record.scenario, &prefixes);
        agree += usize::from(found.is_empty() == (record.gold == Gold::Compliant));
    }
    println!("checker and gold agree on {agree} of {} cases", all().count());
    assert_eq!(agree, all().count());
}

#[test]
fn every_perturbation_is_what_it_says() {
    let by_id: BTreeMap<&str, &Record> = all().map(|record| (record.id.as_str(), record)).collect();
    assert_eq!(by_id.len(), 4500);
    for record in all() {
        let parent = record.parent_id.as_deref().map(|id| by_id[id]);
        let same = parent.is_some_and(|parent| parent.gold == record.gold);
        let sorted = |text: &str| {
            let mut sentences: Vec<String> =
                text.split_inclusive(['.', '!']).map(|one| one.trim().to_lowercase()).collect();
            sentences.sort();
            sentences
        };
        let ok = match record.perturbation {
            Perturbation::BaselineCompliant | Perturbation::AdversarialSurfaceCompliant => {
                record.gold == Gold::Compliant
            }
            Perturbation::BaselineNoncompliant | Perturbation::AdversarialSurfaceNoncompliant => {
                record.gold == Gold::NonCompliant
            }
            Perturbation::PrerequisiteOmission | Perturbation::HierarchyViolation => {
                record.gold == Gold::NonCompliant && !same
            }
            Perturbation::StepReorderInvalid => {
                record.gold == Gold::NonCompliant
                    && record.meta.edge.is_some()
                    && parent.is_some_and(|parent| {
                        parent.scenario != record.scenario && sorted(&parent.scenario) == sorted(&record.scenario)
                    })
            }
            Perturbation::LexicalParaphrase => {
                same && parent.is_some_and(|parent| likeness(&parent.scenario, &record.scenario) <= 0.6)
            }
            Perturbation::DistractorInjection => {
                same && parent.is_some_and(|parent| record.scenario.len() > parent.scenario.len())
            }
            Perturbation::ExceptionTrigger => true,
        };
        assert!(ok, "{record:?}\n{parent:?}");
        let flips = parent.is_some_and(|parent| parent.gold != record.gold);
        assert_eq!(record.meta.flips_gold, flips, "{}", record.id);
    }
    let [honoured, ignored] = Gold::ALL
        .map(|gold| all().filter(|one| one.perturbation == Perturbation::ExceptionTrigger && one.gold == gold).count());
    assert!(honoured.abs_diff(ignored) < 20 && honoured > 300, "{honoured} {ignored}");
    let compliant = all().filter(|record| record.gold == Gold::Compliant).count() as f64 / 4500.0;
    assert!((0.45..0.55).contains(&compliant), "neither label is the more frequent by far: {compliant}");
}

#[test]
fn pairs_are_pairs() {
    let by_id: BTreeMap<&str, &Record> = MADE.test.iter().map(|record| (record.id.as_str(), record)).collect();
    let mut counts: BTreeMap<(PairKind, bool), usize> = BTreeMap::new();
    for pair in &MADE.pairs {
        let (a, b) = (by_id[pair.a.as_str()], by_id[pair.b.as_str()]);
        assert_eq!((&a.process_id, &a.procedure), (&b.process_id, &b.procedure));
        *counts.entry((pair.kind, a.gold == b.gold)).or_default() += 1;
    }
    println!("{counts:?}");
    assert!(!counts.contains_key(&(PairKind::Flip, true)) && !counts.contains_key(&(PairKind::Anchor, false)));
    for (kind, same) in
        [(PairKind::Flip, false), (PairKind::Anchor, true), (PairKind::Swap, true), (PairKind::Swap, false)]
    {
        assert!(counts[&(kind, same)] >= 100, "{kind:?} {same}: {counts:?}");
    }
}

#[test]
fn cohorts_keep_apart() {
    let of = |cohort: &'static str| MADE.test.iter().filter(move |record| record.cohort == cohort);
    let key = |record: &Record| (record.procedure.clone(), record.scenario.clone());
    let train: BTreeSet<_> = MADE.train.iter().map(key).collect();
    assert_eq!(MADE.test.iter().filter(|record| train.contains(&key(record))).count(), 0, "no instance leaks");
    let procedures: BTreeSet<&str> = MADE.train.iter().map(|record| record.procedure.as_str()).collect();
    let trained: BTreeSet<&str> = MADE.train.iter().map(|record| record.process_id.as_str()).collect();
    assert!(
        of("bindings")
            .all(|one| !procedures.contains(one.procedure.as_str()) && trained.contains(one.process_id.as_str()))
    );
    assert!(of("processes").all(|one| !trained.contains(one.process_id.as_str())));
    for cohort in ["fresh", "bindings", "processes"] {
        assert_eq!(of(cohort).count(), 500);
        let seen: BTreeSet<Perturbation> = of(cohort).map(|record| record.perturbation).collect();
        assert_eq!(seen.len(), 10, "{cohort}");
    }
}

#[test]
fn a_seed_makes_one_corpus_and_held_out_cases_do_not_depend_on_training_ones() {
    let (one, again, other) = (make(50, 300, 7), make(400, 300, 7), make(50, 300, 8));
    assert_eq!((&one.test, &one.pairs), (&again.test, &again.pairs));
    assert_eq!(one.train, again.train[..50]);
    assert_ne!(one.test, other.test);
}

/// Who looks at single words only is right where surfaces are, and wrong where they are turned round.
#[test]
fn a_keyword_predictor_fails_the_adversarial_cells() {
    let cues = builtin_phrases().unwrap().cues;
    let words = |texts: [&[String]; 2]| -> BTreeSet<String> {
        let of = |text: &String| {
            text.to_lowercase().split(|c: char| !c.is_alphabetic()).map(str::to_owned).collect::<Vec<_>>()
        };
        texts.into_iter().flatten().flat_map(of).filter(|word| word.len() > 4).collect()
    };
    let good = words([&cues.compliance_prefix, &cues.compliance_sentence]);
    let bad = words([&cues.violation_prefix, &cues.violation_sentence]);
    let says = |record: &Record| {
        let text = record.scenario.to_lowercase();
        let n = |words: &BTreeSet<String>| {
            text.split(|c: char| !c.is_alphabetic()).filter(|one| words.contains(*one)).count()
        };
        if n(&bad) > n(&good) { Gold::NonCompliant } else { Gold::Compliant }
    };
    for perturbation in [Perturbation::AdversarialSurfaceCompliant, Perturbation::AdversarialSurfaceNoncompliant] {
        let cases: Vec<&Record> = all().filter(|record| record.perturbation == perturbation).collect();
        let right = cases.iter().filter(|record| says(record) == record.gold).count();
        println!("{perturbation}: keywords are right on {right} of {}", cases.len());
        assert!(right * 10 < cases.len(), "{right} of {}", cases.len());
    }
}

#[test]
fn what_is_wrong_with_a_process_is_said() {
    let refused = |from: &str, to: &str| {
        assert!(DRUM.contains(from), "{from}");
        processes(Path::new("own.toml"), &DRUM.replacen(from, to, 1)).unwrap_err().to_string()
    };
    let table = [
        ("optional = true", "after = [\"sign\"]", "precedence runs in a circle"),
        ("role = \"checker\"", "role = \"cook\"", "steps[3].role`: \"cook\" is no role"),
        ("needs = [\"vent\"]", "needs = [\"air\"]", "\"air\" is no step"),
        ("opens the {vessel}", "opens the {box}", "names {box}, which is no slot"),
        ("instead_of = \"label\"", "instead_of = \"vent\"", "is needed by another step"),
        ("instead_of = \"label\"", "instead_of = \"lab\"", "\"lab\" is no step"),
        ("id = \"open\"", "id = \"vent\"", "\"vent\" stands twice"),
        ("\"head\"]", "\"boss\"]", "rank every role once"),
        ("[\"officer\"]", "[\"student\"]", "the word \"student\" stands twice"),
        ("title = ", "titel = ", "unknown field `titel`"),
        ("did = \"wrote a label\"", "did = \" \"", "an empty text"),
    ];
    for (from, to, expected) in table {
        let error = refused(from, to);
        let hinted = processes(Path::new("own.toml"), &DRUM.replacen(from, to, 1)).unwrap_err();
        let text = format!("{error} ({})", hinted.hint().unwrap_or_default());
        assert!(text.contains(expected) && text.contains("own.toml"), "{text}");
    }
    assert!(phrases(Path::new("p.toml"), "[distractors]\n").unwrap_err().to_string().contains("cues"));
}

#[test]
fn the_command_writes_a_folder_or_says_why_not() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("corpus");
    let said = interp("task compliance --train 40 --test 60 --json --out {}", &[&out]);
    assert_eq!(said.code, 0, "{}", said.err);
    let lines = |name: &str| fs::read_to_string(out.join(name)).unwrap().lines().count();
    assert_eq!((lines("train.jsonl"), lines("traces.jsonl"), lines("test.jsonl")), (40, 40, 60));
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&report["n_train"], &report["n_test"], &report["seed"]), (&40.into(), &60.into(), &0.into()));
    let sum =
        |key: &str| -> u64 { report["cells"].as_array().unwrap().iter().map(|cell| cell[key].as_u64().unwrap()).sum() };
    assert_eq!(sum("compliant") + sum("non_compliant"), 100);

    let trials = fs::read_to_string(out.join("trials.jsonl")).unwrap();
    let trials: Vec<Value> = trials.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(trials.len() as u64, 2 * report["pairs"]["flip"].as_u64().unwrap());
    let targets = [&trials[0], &trials[1]].map(|trial| trial["target"]["correct"].as_str().unwrap());
    assert_eq!(targets, [" compliant", " non"]);
    assert_eq!(trials[0]["source"]["messages"], trials[1]["base"]["messages"]);
    assert_eq!(trials[0]["base"]["prefix"], "FINAL ANSWER:");

    let again = interp("task compliance --train 40 --test 60 --out {}", &[&out]);
    assert!(again.code == 2 && again.err.contains("not empty"), "{}", again.err);

    let (own, new) = (temp.path().join("own.toml"), temp.path().join("new"));
    fs::write(&own, DRUM.replace("optional = true", "after = [\"sign\"]")).unwrap();
    let circle = interp("task compliance --processes {} --out {}", &[&own, &new]);
    assert!(circle.code == 2 && circle.err.contains("circle: "), "{}", circle.err);
    assert!(circle.err.contains("vent before open before sign before vent"), "{}", circle.err);
    fs::write(&own, DRUM).unwrap();
    let few = interp("task compliance --processes {} --train 5000 --test 0 --out {}", &[&own, &new]);
    assert!(few.code == 2 && few.err.contains("ask for fewer"), "{}", few.err);
    assert!(!new.exists());
}

#[test]
fn cases_of_ones_own_are_cleaned_and_compared_with_training() {
    let temp = tempfile::tempdir().unwrap();
    let (made, own, out) = (temp.path().join("made"), temp.path().join("own.jsonl"), temp.path().join("out"));
    assert_eq!(interp("task compliance --train 60 --test 60 --out {}", &[&made]).code, 0);
    let text = fs::read_to_string(made.join("test.jsonl")).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let train = fs::read_to_string(made.join("train.jsonl")).unwrap();
    lines.push(serde_json::from_str(train.lines().next().unwrap()).unwrap());
    let mut again = lines[0].clone();
    (again["id"], again["cohort"]) = ("again".into(), "first".into());
    again["scenario"] = again["scenario"].as_str().unwrap().to_uppercase().replace(' ', "  ").into();
    lines.push(again);
    lines[1]["admit"] = false.into();
    let write = |lines: &[Value]| {
        fs::write(&own, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    };
    write(&lines);
    let words = "task compliance --records {} --against {} --cohorts first,fresh --json --out {}";
    let said = interp(words, &[&own, &made.join("train.jsonl"), &out]);
    assert_eq!(said.code, 0, "{}", said.err);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&report["cases"], &report["kept"]), (&62.into(), &60.into()));
    assert_eq!(report["dropped"], serde_json::json!({ "not_admitted": 1, "unobservable": 0, "duplicate": 1 }));
    let kept = fs::read_to_string(out.join("cleaned.jsonl")).unwrap();
    assert!(
        kept.contains("\"again\"") && !kept.contains(&format!("\"id\":{}", lines[0]["id"])),
        "the first cohort's stays"
    );
    let leaked: u64 =
        report["leakage"].as_array().unwrap().iter().map(|one| one["same_instance"].as_u64().unwrap()).sum();
    assert_eq!(leaked, 1);

    lines[2]["gold"] = "Compliant".into();
    write(&lines);
    let said = interp("task compliance --records {} --out {}", &[&own, &temp.path().join("new")]);
    assert!(said.code == 2 && said.err.contains("own.jsonl:3") && said.err.contains("non-compliant"), "{}", said.err);
    assert!(!temp.path().join("new").exists());
}
