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
