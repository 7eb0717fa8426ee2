//! Why the server does not start or stops: causes a person can act on.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ottla_engine::OpenError;

/// Why the server did not start, or stopped. [`remedy`](Self::remedy) says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Another program listens there.
    #[error("{listener}: {address} is taken by another program")]
    AddressInUse {
        /// Which listener, by its setting.
        listener: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be bound.
    #[error("{listener}: cannot listen on {address}: {source}")]
    Address {
        /// Which listener, by its setting.
        listener: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// Another ottla serves this directory.
    #[error("{why}")]
    Locked {
        /// Which directory, and which process holds it.
        why: String,
    },
    /// The directory may not be read or written.
    #[error("{data}: {source}", data = data.display())]
    Permission {
        /// The data directory.
        data: PathBuf,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// The disk has no room to start.
    #[error("{data}: no space left on the disk", data = data.display())]
    NoSpace {
        /// The data directory.
        data: PathBuf,
    },
    /// The directory was written by a newer version.
    #[error("{why}")]
    NewerFormat {
        /// Which file, and which version.
        why: String,
    },
    /// Acknowledged data cannot be read. Nothing was changed.
    #[error("{why}")]
    Corrupt {
        /// What was found, and where.
        why: String,
    },
    /// The disk failed while serving: nothing more is acknowledged.
    #[error("the log failed and nothing more is acknowledged: {why}")]
    Fatal {
        /// What was being done, and the disk's own words.
        why: String,
    },
    /// Anything else of the system.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
}

impl ServeError {
    /// What a person can do about it, if anything is known.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::AddressInUse { listener, .. } => {
                format!(
                    "stop it, or choose another port: --{listener} 127.0.0.1:0 picks a free one"
                )
            }
            Self::Locked { .. } => {
                "stop that process, or serve another directory with --data".to_owned()
            }
            Self::Permission { .. } => {
                "make the directory writable for this user, or choose another with --data"
                    .to_owned()
            }
            Self::NoSpace { .. } => {
                "free some space, or choose another disk with --data".to_owned()
            }
            Self::NewerFormat { .. } => "start it with that version or a newer one".to_owned(),
            Self::Corrupt { .. } => {
                "run `ottla verify` on the directory; restore it from a backup if it was damaged"
                    .to_owned()
            }
            Self::Fatal { .. } => {
                "check the disk (dmesg), then start again: recovery trusts nothing unsynced"
                    .to_owned()
            }
            _ => return None,
        })
    }

    pub(crate) fn disk(data: &Path, error: io::Error) -> Self {
        let data = data.to_owned();
        match error.kind() {
            io::ErrorKind::ResourceBusy => Self::Locked { why: error.to_string() },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Permission { data, source: error }
            }
            io::ErrorKind::StorageFull => Self::NoSpace { data },
            _ => Self::Io { doing: data.display().to_string(), source: error },
        }
    }

    pub(crate) fn open(data: &Path, error: OpenError) -> Self {
        match error {
            OpenError::NewerFormat { .. } => Self::NewerFormat { why: error.to_string() },
            OpenError::Io { source, .. } => Self::disk(data, source),
            _ => Self::Corrupt { why: error.to_string() },
        }
    }
}
