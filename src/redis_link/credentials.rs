//! Who this program is towards Redis: a user name and a password, maybe from a file that changes.
//!
//! In: a [`PasswordSource`]. Out: [`Credentials`], re-read whenever the file changed.
//! Not here: the connection. Secrets appear in no `Debug` form and in no log line (S14).

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use crate::config::{PasswordSource, Secret};
use crate::file_stamp::FileStamp;

/// A user name and a password; `Debug` shows neither's value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The ACL user; `None` is Redis's default user.
    pub username: Option<String>,
    /// The password; `None` sends no AUTH at all.
    pub password: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |set: bool| if set { "***" } else { "none" };
        f.debug_struct("Credentials")
            .field("username", &hidden(self.username.is_some()))
            .field("password", &hidden(self.password.is_some()))
            .finish()
    }
}

/// The credentials as they are now.
#[derive(Debug)]
pub struct CredentialStore {
    source: PasswordSource,
    current: Credentials,
    seen: Option<FileStamp>,
    warned: bool,
}

impl CredentialStore {
    /// A store for this user; an empty user name is the default user. Reads the file at once.
    pub fn new(username: Option<String>, source: PasswordSource) -> Self {
        let password = match &source {
            PasswordSource::Literal(password) => Some(password.reveal().to_owned()),
            PasswordSource::None | PasswordSource::File(_) => None,
        };
        let current = Credentials {
            username: username.filter(|name| !name.is_empty()),
            password: password.filter(|password| !password.is_empty()),
        };
        let mut store = Self {
            source,
            current,
            seen: None,
            warned: false,
        };
        store.current();
        store
    }

    /// The credentials now: one `stat`, and one read if the file changed.
    ///
    /// A file that cannot be read keeps the last password, with one warning until it can be again.
    pub fn current(&mut self) -> &Credentials {
        if let PasswordSource::File(path) = &self.source {
            match read_if_changed(&self.source, path, self.seen) {
                Ok(None) => self.warned = false,
                Ok(Some((stamp, password))) => {
                    self.seen = Some(stamp);
                    self.warned = false;
                    self.current.password = password.map(|word| word.reveal().to_owned());
                }
                Err(error) => {
                    if !self.warned {
                        let path = path.display();
                        tracing::warn!(%path, %error, "cannot read the password file, the last password stays");
                    }
                    self.warned = true;
                }
            }
        }
        &self.current
    }
}

fn read_if_changed(
    source: &PasswordSource,
    path: &Path,
    seen: Option<FileStamp>,
) -> io::Result<Option<(FileStamp, Option<Secret>)>> {
    let stamp = FileStamp::of(&fs::metadata(path)?);
    if seen == Some(stamp) {
        return Ok(None);
    }
    Ok(Some((stamp, source.read()?)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn password(store: &mut CredentialStore) -> Option<String> {
        store.current().password.clone()
    }

    #[test]
    fn a_file_is_re_read_when_a_secret_swaps_its_symlink() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two, link, file] =
            ["one", "two", "..data", "password"].map(|n| dir.path().join(n));
        fs::write(&one, "first\n").unwrap();
        fs::write(&two, "other\n\n").unwrap();
        symlink(&one, &link).unwrap();
        symlink(&link, &file).unwrap();
        let mut store = CredentialStore::new(Some("agent".into()), PasswordSource::File(file));
        assert_eq!(password(&mut store).as_deref(), Some("first"));
        let swap = dir.path().join("..data_tmp");
        symlink(&two, &swap).unwrap();
        fs::rename(&swap, &link).unwrap();
        assert_eq!(password(&mut store).as_deref(), Some("other"));
    }

    #[test]
    fn an_unreadable_file_keeps_the_last_password() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let mut store = CredentialStore::new(None, PasswordSource::File(file.clone()));
        assert_eq!(password(&mut store), None);
        fs::write(&file, "word\r\n").unwrap();
        assert_eq!(password(&mut store).as_deref(), Some("word"));
        fs::remove_file(&file).unwrap();
        assert_eq!(password(&mut store).as_deref(), Some("word"));
        assert!(store.warned);
        fs::create_dir(&file).unwrap();
        assert_eq!(password(&mut store).as_deref(), Some("word"));
        fs::remove_dir(&file).unwrap();
        fs::write(&file, "").unwrap();
        assert_eq!(password(&mut store).as_deref(), Some("word"));
        fs::write(&file, "next").unwrap();
        assert_eq!(password(&mut store).as_deref(), Some("next"));
        assert!(!store.warned);
    }

    #[test]
    fn s14_debug_shows_no_secret() {
        let source = PasswordSource::Literal(Secret::new("hunter2".into()));
        let mut store = CredentialStore::new(Some("agent7".into()), source.clone());
        let now = store.current().clone();
        let shown = format!("{source:?} {store:?} {now:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("agent7"),
            "{shown}"
        );
        let mut empty = CredentialStore::new(Some(String::new()), PasswordSource::None);
        assert_eq!(*empty.current(), Credentials::default());
    }
}
