//! Where the hub, its cache and its token are, from the environment variables that Python's library reads. Asks nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Called with a file's name, the bytes of it that are here, and all its bytes.
pub type OnDownload = Arc<dyn Fn(&str, u64, u64) + Send + Sync>;

/// How to reach the hub.
#[derive(Clone)]
pub struct HubOptions {
    /// `https://huggingface.co` or a mirror, without a final slash.
    pub endpoint: String,
    /// The folder of the shared cache.
    pub cache_dir: PathBuf,
    /// An access token, sent to the endpoint only.
    pub token: Option<String>,
    /// Use the cache and make no request.
    pub offline: bool,
    /// Told of downloads as they go.
    pub on_download: Option<OnDownload>,
}

impl HubOptions {
    /// From `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`;
    /// without `HF_TOKEN` the token is the one that `hf auth login` stored.
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// As [`HubOptions::from_env`], from other variables than the process's.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Self {
        // Python's library takes an empty variable for an unset one.
        let var = |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let cache_home = || match var("XDG_CACHE_HOME") {
            Some(dir) => PathBuf::from(dir),
            None => Path::new(&var("HOME").unwrap_or_else(|| ".".into())).join(".cache"),
        };
        let home = var("HF_HOME").map_or_else(|| cache_home().join("huggingface"), PathBuf::from);
        let stored_token = || {
            let path = var("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
            let token = std::fs::read_to_string(path).ok()?;
            Some(token.trim().to_owned()).filter(|token| !token.is_empty())
        };
        let is_true = |value: String| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        Self {
            endpoint: var("HF_ENDPOINT")
                .map_or_else(|| "https://huggingface.co".into(), |url| url.trim_end_matches('/').to_owned()),
            cache_dir: var("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token: var("HF_TOKEN").or_else(stored_token),
            offline: var("HF_HUB_OFFLINE").or_else(|| var("TRANSFORMERS_OFFLINE")).is_some_and(is_true),
            on_download: None,
        }
    }
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret and stays out of every message.
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(vars: &[(&str, &str)]) -> HubOptions {
        HubOptions::from_vars(|name| vars.iter().find(|(var, _)| *var == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_nearest_variable_wins() {
        let home = options(&[("HOME", "/h")]);
        assert_eq!(home.cache_dir, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!((home.endpoint.as_str(), home.offline, home.token), ("https://huggingface.co", false, None));
        assert_eq!(options(&[("XDG_CACHE_HOME", "/x")]).cache_dir, Path::new("/x/huggingface/hub"));
        assert_eq!(options(&[("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")]).cache_dir, Path::new("/f/hub"));
        assert_eq!(options(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]).cache_dir, Path::new("/c"));
        assert_eq!(options(&[("HF_ENDPOINT", "http://m/")]).endpoint, "http://m");
        for (value, offline) in [("1", true), ("true", true), ("0", false), ("", false)] {
            assert_eq!(options(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
    }

    #[test]
    fn the_token_is_the_variable_or_the_stored_one_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "stored\n").unwrap();
        let home = dir.path().to_str().unwrap();
        assert_eq!(options(&[("HF_HOME", home)]).token.as_deref(), Some("stored"));
        let options = options(&[("HF_HOME", home), ("HF_TOKEN", "secret")]);
        assert_eq!(options.token.as_deref(), Some("secret"));
        assert!(!format!("{options:?}").contains("secret"));
    }
}
