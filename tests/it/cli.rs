//! The command line as a user meets it: help, exit codes, completions.

use crate::support::millstream;

#[test]
fn help_and_version_exit_with_zero() {
    for args in [&["--help"][..], &["--version"], &["capture", "--help"], &["help", "sql"]] {
        let output = millstream().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn usage_errors_exit_with_two() {
    for args in [&["nonsense"][..], &["capture"], &["topics", "--no-such-option"]] {
        let output = millstream().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = millstream().args(["completions", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("millstream"));
    }
}

/// Commands that look after a service look where its settings say that it is.
#[test]
fn commands_find_the_service_by_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("millstream.toml"), "data = 'elsewhere'\n").unwrap();
    let run = |args: &[&str]| {
        let output = millstream().current_dir(dir.path()).args(args).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    assert!(
        run(&["pipelines", "list"]).contains("no pipelines in elsewhere"),
        "{}",
        run(&["pipelines", "list"])
    );
    assert!(run(&["--data", "here", "pipelines", "list"]).contains("no pipelines in here"));
    assert!(run(&["offsets", "show", "x"]).contains("looked in elsewhere and in file:elsewhere/log"));
}
