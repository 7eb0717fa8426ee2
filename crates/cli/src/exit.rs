//! How a command ends: what a person is told, and the exit code (sysexits).

use std::fmt;
use std::process::ExitCode;

/// A command failed: what happened, what to do, which exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    remedy: Option<String>,
    code: Code,
}

/// The exit codes in use, from sysexits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The command line is wrong.
    Usage = 64,
    /// The data is damaged or of a newer version.
    Data = 65,
    /// A file to be read is not there.
    NoInput = 66,
    /// A service that is needed is not there.
    Unavailable = 69,
    /// A file or port cannot be had.
    CantCreate = 73,
    /// The disk failed.
    Io = 74,
    /// Not permitted.
    NoPermission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl Failure {
    pub(crate) fn new(code: Code, what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), remedy: None, code }
    }

    /// What the person can do about it.
    pub(crate) fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }

    /// Tells the person on stderr and gives the code to end with.
    pub(crate) fn report(self) -> ExitCode {
        eprintln!("ottla: {}", self.what);
        if let Some(remedy) = &self.remedy {
            eprintln!("       {remedy}");
        }
        ExitCode::from(self.code as u8)
    }
}
