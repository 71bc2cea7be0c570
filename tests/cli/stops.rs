//! Runs that are stopped: by Ctrl-C, by SIGKILL, by a full disk. What was done is kept, and the end is the same to the bit.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Ended, Place, alter, done, ended, model, with_defaults};

const TRIALS: usize = 60;

/// Starts a sweep, waits until a few trials are in its journal, sends `signal`, and returns how it ended.
pub fn stop(place: &Place, flags: &[&str], out: &str, signal: i32) -> (Option<i32>, String) {
    let model = model();
    let mut command = place.interp(&with_defaults(&model, &[flags, &["--out", out]].concat()));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let journal = place.path(out).join("partial/trials.bin");
    let start = Instant::now();
    while fs::metadata(&journal).map_or(0, |file| file.len()) < 1000 {
        assert!(start.elapsed() < Duration::from_secs(60), "the sweep did not begin");
        assert_eq!(child.try_wait().unwrap(), None, "the sweep ended by itself");
        std::thread::sleep(Duration::from_millis(2));
    }
    // SAFETY: the process is our child and has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_stopped_run_resumes_to_the_same_bytes() {
    let place = Place::with_trials(TRIALS);
    assert_eq!(place.sweep(&["--out", "whole"]), done("whole\n"));
    let whole = place.out("whole");

    let (code, stderr) = stop(&place, &[], "interrupted", libc::SIGINT);
    let n = stderr.strip_prefix("interrupted after ").and_then(|rest| rest.split_once(' ')).map_or("", |(n, _)| n);
    assert_eq!(
        (code, &stderr),
        (Some(130), &format!("interrupted after {n} of {TRIALS} trials; the same command resumes\n"))
    );
    assert!((1..TRIALS).contains(&n.parse().unwrap()), "{n}");
    let resumed = place.sweep(&["--out", "interrupted"]);
    let stderr = format!("resuming: {n} of {TRIALS} trials are there\n");
    assert_eq!(resumed, Ended { code: Some(0), stdout: "interrupted\n".into(), stderr });
    assert!(place.out("interrupted") == whole, "after SIGINT");

    assert_eq!(stop(&place, &[], "killed", libc::SIGKILL), (None, String::new()));
    let unfinished = place.run(&["stats", "killed"]);
    let stderr =
        "error: killed: the run in this folder is not finished\nhint: the command that started it resumes it\n";
    assert_eq!((unfinished.code, unfinished.stderr.as_str()), (Some(2), stderr));
    assert_eq!(place.sweep(&["--out", "killed"]).code, Some(0));
    assert!(place.out("killed") == whole, "after SIGKILL");
}

/// A disk that takes this many bytes per file.
fn limit(command: &mut Command, bytes: libc::rlim_t) -> &mut Command {
    // SAFETY: two plain system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
            Ok(())
        })
    }
}

#[test]
fn a_run_that_could_not_write_goes_on_when_it_can_and_only_with_the_same_weights() {
    let place = Place::with_trials(24);
    place.copy_model("m");
    let flags = ["--model", "m"];
    assert_eq!(place.sweep(&["--model", "m", "--out", "whole"]).code, Some(0));

    let stopped = ended(limit(&mut place.interp(&with_defaults("m", &flags)), 4000));
    let stderr = "error: cannot write out/partial/trials.bin: File too large (os error 27)\n\
                  hint: free some space; what was written before is kept\n";
    assert_eq!(stopped, Ended { code: Some(2), stdout: String::new(), stderr: stderr.into() });

    let weights = place.path("m/model.safetensors");
    let old = fs::metadata(&weights).unwrap().modified().unwrap();
    alter(&weights, |_| ());
    let refused = place.sweep(&flags);
    let stderr = "error: out: the weights of m changed since this run began\n\
                  hint: give another --out, or put the old weights back\n";
    assert_eq!(refused, Ended { code: Some(2), stdout: String::new(), stderr: stderr.into() });
    fs::File::options().write(true).open(&weights).unwrap().set_modified(old).unwrap();

    assert_eq!(place.sweep(&flags).code, Some(0));
    assert!(place.out("out") == place.out("whole"));
}

#[test]
fn a_full_disk_and_a_read_only_one_are_one_clear_error() {
    let place = Place::with_trials(40);
    fs::create_dir(place.path("disk")).unwrap();
    let model = model();
    let arguments = with_defaults(&model, &["--out", "disk/out"]);
    let in_namespace = |script: &str| {
        let mut command = place.interp(&[]);
        let interp = command.get_program().to_owned();
        let mut shell = Command::new("unshare");
        shell.args(["-rm", "sh", "-c", script, "sh"]).arg(interp).args(&arguments);
        shell.current_dir(command.current_dir(place.path("")).get_current_dir().unwrap());
        shell
    };
    let able = Command::new("unshare").args(["-rm", "sh", "-c", "mount -t tmpfs none /mnt"]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        println!("skipped: a user namespace that may mount tmpfs is needed");
        return;
    }
    let full = ended(&mut in_namespace(
        "mount -t tmpfs -o size=12k none disk; \"$@\" 2>&1; echo \"exit $?\"; mount -o remount,size=16m disk; \
         \"$@\" 2>/dev/null; echo \"exit $?\"; cp -r disk/out saved",
    ));
    assert_eq!(
        full.stdout,
        "error: cannot write disk/out/partial/trials.bin: No space left on device (os error 28)\n\
         hint: free some space; what was written before is kept\nexit 2\ndisk/out\nexit 0\n"
    );
    assert_eq!(place.sweep(&["--out", "whole"]).code, Some(0));
    assert!(place.out("saved") == place.out("whole"), "after the disk was full");

    let read_only = ended(&mut in_namespace("mount -t tmpfs -o ro none disk; exec \"$@\""));
    let stderr = "error: cannot create disk/out/partial: Read-only file system (os error 30)\n\
                  hint: give a folder that can be written to\n";
    assert_eq!(read_only, Ended { code: Some(2), stdout: String::new(), stderr: stderr.into() });
}
