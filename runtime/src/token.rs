//! The token that our own processes show each other where not everybody may ask: orders to managers, `/warm` of readers.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::Problem;

/// Where the token comes from.
#[derive(Clone, Default, clap::Args)]
pub struct InternalToken {
    /// Bearer token for orders between our own processes (moves, cordons, warming); without one, managers take none.
    #[arg(long, env = "LIVERANK_INTERNAL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    internal_token: Option<String>,
    /// A file with that token.
    #[arg(
        long,
        env = "LIVERANK_INTERNAL_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "internal_token"
    )]
    internal_token_file: Option<PathBuf>,
}

impl std::fmt::Debug for InternalToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InternalToken").field("file", &self.internal_token_file).finish_non_exhaustive()
    }
}

impl InternalToken {
    /// The token `text` itself, for tests and tools.
    pub fn of(text: &str) -> Self {
        Self { internal_token: Some(text.to_owned()), internal_token_file: None }
    }

    /// The token, where one is configured.
    ///
    /// # Errors
    /// A file that cannot be read, or a token that cannot be one: empty, or with other characters than visible ASCII.
    pub fn read(&self) -> anyhow::Result<Option<Token>> {
        let text = match (&self.internal_token, &self.internal_token_file) {
            (Some(text), _) => text.clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .with_context(|| format!("the internal token's file {} cannot be read", file.display()))?,
            (None, None) => return Ok(None),
        };
        let text = text.trim();
        anyhow::ensure!(
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()),
            "the internal token must be of visible ASCII characters, and not empty"
        );
        let mut header = HeaderValue::try_from(format!("Bearer {text}"))?;
        header.set_sensitive(true);
        Ok(Some(Token(header)))
    }
}

/// A token, as the value of an `Authorization` header.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// The value of the `Authorization` header.
    pub const fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// 401 for a request that does not carry it.
    ///
    /// # Errors
    /// The problem to answer with.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.is_shown(headers) {
            return Ok(());
        }
        let detail = "this takes the internal token: Authorization: Bearer <token>";
        Err(Problem::new(StatusCode::UNAUTHORIZED, detail).challenge("Bearer"))
    }

    /// Whether a request carries it.
    pub fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
        is_same(shown, self.0.as_bytes())
    }
}

/// A token of which only the SHA-256 is known here: whoever reads that cannot show the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl FromStr for TokenHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut hash = [0; 32];
        let fits = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        for (at, byte) in hash.iter_mut().enumerate().filter(|_| fits) {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("two hex digits are a byte");
        }
        if fits { Ok(Self(hash)) } else { Err("must be a SHA-256 in 64 hex digits") }
    }
}

impl TokenHash {
    /// Whether a request carries the token.
    pub fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
        shown.strip_prefix(b"Bearer ").is_some_and(|token| is_same(Sha256::digest(token).as_slice(), &self.0))
    }
}

/// Whether both are the same, in a time that does not tell where they differ.
fn is_same(shown: &[u8], expected: &[u8]) -> bool {
    let differences = shown.iter().zip(expected).fold(0, |all, (a, b)| all | (a ^ b));
    shown.len() == expected.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn only_the_token_itself_passes() {
        let token = InternalToken::of("s3cret").read().unwrap().unwrap();
        assert!(token.check(&shown("Bearer s3cret")).is_ok());
        for wrong in
            ["", "Bearer", "Bearer s3cre", "Bearer s3cret ", "Bearer s3crets", "Basic s3cret", "s3cret"]
        {
            let refused = token.check(&shown(wrong)).unwrap_err();
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{wrong}");
        }
        assert!(token.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_token_is_known_by_its_hash() {
        // `printf s3cret | sha256sum`
        let hex = "1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0";
        let hash: TokenHash = hex.parse().unwrap();
        assert_eq!(hex.to_uppercase().parse(), Ok(hash));
        assert!(hash.is_shown(&shown("Bearer s3cret")));
        for wrong in
            ["", "Bearer", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", &format!("Bearer {hex}")]
        {
            assert!(!hash.is_shown(&shown(wrong)), "{wrong}");
        }
        assert!(!hash.is_shown(&HeaderMap::new()));
        for wrong in ["", &hex[1..], &format!("{hex}0"), &hex.replace('f', "g"), &hex.replace("1e", "é")] {
            assert!(wrong.parse::<TokenHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_ends_in_a_line_and_a_token_is_not_empty() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let of = |file| InternalToken { internal_token: None, internal_token_file: Some(file) };
        let token = of(file.clone()).read().unwrap().unwrap();
        assert!(token.check(&shown("Bearer s3cret")).is_ok());
        std::fs::write(&file, "\n").unwrap();
        assert!(of(file).read().is_err());
        assert!(of(directory.path().join("none")).read().is_err());
        assert!(InternalToken::default().read().unwrap().is_none());
        assert!(!format!("{:?}", InternalToken::of("s3cret")).contains("s3cret"));
    }
}
