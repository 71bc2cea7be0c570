//! What no compiler checks: who imports whom, what we link to and depend on, and the house rules for files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::root;

/// Modules of `interp-core` and what each may import: exactly what it does. `ARCHITECTURE.md` shows the same table.
const IMPORTS: [(&str, &str); 30] = [
    ("adapter", "checkpoint, config, error, hub"),
    ("anatomy", "config, site"),
    ("cache", "decoder, device, hooks, site"),
    ("checkpoint", "config, error, hub, nf4"),
    ("compliance", "error, eval, stats"),
    ("config", "error"),
    ("decoder", "adapter, checkpoint, config, device, error, hooks, nf4, site"),
    ("device", "error"),
    ("eval", "error"),
    ("export", "error, plot, scores, site, stats, sweep"),
    ("generate", "cache, config, decoder, error, hooks, intervention, prompt, site"),
    ("guard", "error"),
    ("hash", "error"),
    ("hooks", "site"),
    ("hub", "error, hash"),
    ("intervention", "cache, config, decoder, device, error, hooks, prompt, site"),
    ("metric", "error, trial"),
    ("nf4", "error"),
    ("patterns", "decoder, device, hooks, site"),
    ("plot", "error, scores"),
    ("prompt", "error, site"),
    ("retrieval", "cache, decoder, error, patterns"),
    ("rsa", "error"),
    ("scores", "error"),
    ("site", "error"),
    ("stats", "error"),
    ("sweep", "cache, config, decoder, error, guard, intervention, metric, prompt, scores, site, transfer, trial"),
    ("task", "decoder, error, generate, guard, intervention, metric, prompt, stats, trial"),
    ("transfer", "cache, config, decoder, error, site"),
    ("trial", "error, prompt, site"),
];

/// Imports narrower than a module: the names that may be used.
const ONLY: [(&str, &str, &[&str]); 1] = [("export", "sweep", &["Sink", "TrialReport"])];

/// Lines a source file may have.
const MAX_LINES: usize = 450;

/// Bytes all fixtures may have together.
const MAX_FIXTURES: u64 = 25_000_000;

/// Crates that would need a library, or a tool, of the system.
const BANNED: [&str; 6] =
    ["fontconfig", "yeslogic-fontconfig-sys", "freetype", "freetype-sys", "openssl-sys", "native-tls"];

/// Crates that may ask pkg-config, because they bring their sources along and build those when it finds nothing.
const MAY_PROBE: [&str; 2] = ["bzip2-sys", "zstd-sys"];

/// Libraries the binary may name. libtorch finds its own.
const LINKED: [&str; 9] = [
    "libc.so",
    "libm.so",
    "libdl.so",
    "libpthread.so",
    "ld-linux",
    "libgcc_s.so",
    "libstdc++.so",
    "libtorch_cpu.so",
    "libc10.so",
];

#[test]
fn modules_import_only_what_the_table_says() {
    let core = root().join("interp-core/src");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files_below(&core, "rs") {
        let inside = path.strip_prefix(&core).expect("below it");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        if module == "lib" {
            continue;
        }
        for line in code(&read(&path)) {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(!name.is_empty(), "{}: one `use crate::module` per line: {line}", path.display());
                if name == module {
                    continue;
                }
                let narrow = ONLY.iter().find(|(from, to, _)| *from == module && *to == name);
                if let Some((from, to, only)) = narrow {
                    let allowed = only.iter().any(|name| rest.starts_with(&format!("{to}::{name};")));
                    assert!(allowed, "{}: `{from}` may import only {only:?} of `{to}`: {line}", path.display());
                }
                found.entry(module.clone()).or_default().insert(name);
            }
        }
        found.entry(module).or_default();
    }
    let mut table: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, imports) in IMPORTS {
        table.insert(module, imports.split(", ").collect());
    }
    let modules = found.keys().filter(|module| *module != "error").map(String::as_str);
    assert!(modules.eq(table.keys().copied()), "the table's modules are not those of interp-core: {:?}", found.keys());
    assert!(found["error"].is_empty(), "`error` imports {:?}", found["error"]);
    for (module, allowed) in &table {
        let imports: BTreeSet<&str> = found[*module].iter().map(String::as_str).collect();
        let new: Vec<_> = imports.difference(allowed).collect();
        assert!(new.is_empty(), "`{module}` imports {new:?}, which the table in tests/tidy.rs does not allow");
        let gone: Vec<_> = allowed.difference(&imports).collect();
        assert!(gone.is_empty(), "`{module}` no longer imports {gone:?}: take it out of the table");
    }
}

#[test]
fn the_import_table_is_the_one_in_architecture_md() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let (_, section) = text.split_once("## Who imports whom").expect("the section");
    let rows: Vec<(&str, &str)> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | ")).collect();
    assert_eq!(rows, IMPORTS, "left: ARCHITECTURE.md, right: tests/tidy.rs");
}

#[test]
fn files_keep_the_house_rules() {
    let root = root();
    let core = root.join("interp-core/src");
    // Spelled in two halves, so that this file does not break its own rules.
    let words = [["#[", "ignore"], ["todo", "!("], ["unimplemented", "!("], ["dbg", "!("]].map(|word| word.concat());
    let printing = [["print", "ln!("], ["eprint", "ln!("], ["print", "!("], ["eprint", "!("]].map(|word| word.concat());
    let mut wrong = Vec::new();
    for path in sources("rs") {
        let text = read(&path);
        let name = path.strip_prefix(&root).expect("below it").display().to_string();
        if !text.starts_with("//! ") {
            wrong.push(format!("{name}: does not begin with a `//!` line that says what it is for"));
        }
        if text.lines().count() > MAX_LINES {
            wrong.push(format!("{name}: has {} lines, more than {MAX_LINES}", text.lines().count()));
        }
        let prints = if path.starts_with(&core) { &printing[..] } else { &[] };
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in words.iter().chain(prints).filter(|word| code.contains(*word)) {
                wrong.push(format!("{name}:{}: {word}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let root = root();
    let roots =
        [["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"], ["/wo", "rk/"], ["/mnt", "/"]].map(|part| part.concat());
    let mut wrong = Vec::new();
    for extension in ["rs", "py", "md", "toml", "sh", "json", "ipynb", "txt", "yml"] {
        for path in sources(extension) {
            for (number, line) in read(&path).lines().enumerate() {
                let absolute = |part: &String| {
                    line.match_indices(part.as_str())
                        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}/".contains(c)))
                };
                if roots.iter().any(absolute) {
                    let name = path.strip_prefix(&root).expect("below it").display();
                    wrong.push(format!("{name}:{}: {}", number + 1, line.chars().take(120).collect::<String>()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fixtures_stay_small() {
    let sizes = all_files(&root().join("fixtures")).into_iter().map(|path| path.metadata().expect("a file").len());
    let total: u64 = sizes.sum();
    assert!(total < MAX_FIXTURES, "fixtures take {total} bytes together, the limit is {MAX_FIXTURES}");
}

#[test]
fn no_dependency_needs_a_system_library() {
    let tree = cargo_tree(&["--prefix", "none"]);
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("tch") && names.len() > 100, "this is not our dependency tree:\n{tree}");
    let found: Vec<&&str> = names.iter().filter(|name| BANNED.contains(name)).collect();
    assert!(found.is_empty(), "the dependency tree has {found:?}: see `cargo tree -i NAME`");
    if names.contains("pkg-config") {
        let users = cargo_tree(&["--invert", "pkg-config", "--depth", "1", "--prefix", "depth"]);
        for user in users.lines().filter_map(|line| line.strip_prefix('1')?.split(' ').next()) {
            assert!(MAY_PROBE.contains(&user), "{user} asks pkg-config for a system library");
        }
    }
}

/// `cargo tree` over normal and build dependencies of the workspace, as locked.
fn cargo_tree(flags: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--edges", "normal,build", "--locked", "--offline"])
        .args(flags)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
#[cfg(target_os = "linux")]
fn the_binary_links_to_libtorch_and_the_c_libraries_alone() {
    let output = Command::new("readelf").args(["--dynamic", "--wide", env!("CARGO_BIN_EXE_interp")]).output();
    let output = output.expect("readelf, which comes with the compiler");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let needed: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split_once('[')?.1.strip_suffix(']'))
        .collect();
    assert!(needed.iter().any(|name| name.starts_with("libtorch_cpu.so")), "not linked to libtorch: {needed:?}");
    let other: Vec<_> = needed.iter().filter(|name| !LINKED.iter().any(|known| name.starts_with(known))).collect();
    assert!(other.is_empty(), "the binary also needs {other:?}");
}

#[test]
fn help_comes_at_once() {
    if cfg!(debug_assertions) {
        println!("SKIPPED: start-up is measured on release builds (cargo test --release)");
        return;
    }
    const LIMIT: Duration = Duration::from_millis(250);
    // What any program pays on this machine, at this moment, that links to libtorch: this one, listing one test.
    const OURS: f64 = 1.5;
    let interp = || Command::new(env!("CARGO_BIN_EXE_interp")).arg("--help").current_dir("/").output();
    let libraries = || {
        let this = std::env::current_exe().expect("the path of this program");
        Command::new(this).args(["--list", "--exact", "tidy::help_comes_at_once"]).current_dir("/").output()
    };
    // Other tests keep all cores busy meanwhile, which only ever adds: wait for a quiet moment.
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let (help, linked) = (median_of_5(interp), median_of_5(libraries));
        if help < LIMIT || help < linked.mul_f64(OURS) {
            println!("interp --help: {} ms, its libraries alone {} ms", help.as_millis(), linked.as_millis());
            return;
        }
        assert!(
            Instant::now() < deadline,
            "interp --help takes {help:?}, its libraries alone {linked:?}: the limit is {LIMIT:?}, or {OURS} times the latter"
        );
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// Seconds until a program has ended well.
fn median_of_5(start: impl Fn() -> std::io::Result<std::process::Output>) -> Duration {
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let begin = Instant::now();
            let output = start();
            let taken = begin.elapsed();
            let output = output.expect("the program starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            taken
        })
        .collect();
    times.sort_unstable();
    times[2]
}

/// Source files of the repository with an extension; nothing that a build or a set-up made.
fn sources(extension: &str) -> Vec<PathBuf> {
    let root = root();
    let mut files: Vec<PathBuf> = ["interp-core", "interp-cli", "tests", "fixtures", "notebooks", ".ci", ".cargo"]
        .iter()
        .flat_map(|folder| files_below(&root.join(folder), extension))
        .collect();
    let top = std::fs::read_dir(&root).expect("the repository's root").map(|entry| entry.expect("readable").path());
    files.extend(top.filter(|path| path.is_file() && path.extension().is_some_and(|found| found == extension)));
    files
}

fn files_below(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = all_files(dir);
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files
}

/// Every file below `dir`, sorted; folders that tools leave behind (`__pycache__`, hidden ones) are passed over.
fn all_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_file() {
                files.push(path);
            } else if path.is_dir() && !name.starts_with(['.', '_']) {
                open.push(path);
            }
        }
    }
    files.sort_unstable();
    files
}

/// Lines of code: no comments, and nothing from the unit tests on.
fn code(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests"));
    let lines = &lines[..end.unwrap_or(lines.len())];
    lines.iter().map(|line| line.split("//").next().unwrap_or_default()).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
