//! The password, kept out of everything that prints.
//!
//! In: a variable's value or a file. Out: the text for AUTH, on request only.
//!
//! Not here: the watching of the file; whoever logs in reads it again.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A text that Debug does not show and that has no Display.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text out of sight.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that sends it to Redis.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Where the password comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// Redis asks for none.
    None,
    /// `REDIS_PASSWORD`
    Literal(Secret),
    /// `REDIS_PASSWORD_FILE`
    File(PathBuf),
}

/// Far more than any password, far less than would hurt.
const FILE_BYTES_MAX: u64 = 64 * 1024;

impl PasswordSource {
    /// The password as it is now; a file is read anew each time.
    pub fn read(&self) -> io::Result<Option<Secret>> {
        match self {
            Self::None => Ok(None),
            Self::Literal(secret) => Ok(Some(secret.clone())),
            Self::File(path) => read_file(path).map(Some),
        }
    }
}

/// The file's text without line breaks at its end. An empty file is an error, not "no password":
/// it is also what a file looks like while somebody writes it.
fn read_file(path: &Path) -> io::Result<Secret> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => io::Error::other("not UTF-8 text"),
            _ => error,
        })?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("larger than 64 KiB"));
    }
    let kept = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(kept);
    if text.is_empty() {
        return Err(io::Error::other("empty"));
    }
    Ok(Secret(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(content: &[u8]) -> io::Result<Option<Secret>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, content).unwrap();
        PasswordSource::File(path).read()
    }

    #[test]
    fn debug_shows_no_secret() {
        let source = PasswordSource::Literal(Secret::new("hunter2".to_owned()));
        assert_eq!(format!("{source:?}"), "Literal(***)");
    }

    #[test]
    fn only_line_breaks_at_the_end_are_dropped() {
        let secret = reading(b" two words \r\n").unwrap().unwrap();
        assert_eq!(secret.reveal(), " two words ");
    }

    #[test]
    fn a_file_that_holds_no_password_is_an_error_without_its_content() {
        for (content, told) in [
            (&b"\n"[..], "empty"),
            (b"\xffhunter2", "not UTF-8 text"),
            (&[b'a'; 70_000], "larger than 64 KiB"),
        ] {
            assert_eq!(reading(content).unwrap_err().to_string(), told);
        }
        let folder = tempfile::tempdir().unwrap();
        let source = PasswordSource::File(folder.path().to_owned());
        assert_eq!(source.read().unwrap_err().to_string(), "not a regular file");
    }
}
