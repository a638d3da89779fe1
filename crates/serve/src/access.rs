//! Where the endpoint listens and who may ask: loopback without more, elsewhere with a token.
//!
//! Invariant: a secret has no way out: it is compared in constant time, and prints as `***`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use riverrun_engine::{Error, Result};
use subtle::ConstantTimeEq;

/// The fewest characters of a token: what can be guessed protects nothing.
const SHORTEST_TOKEN: usize = 12;

/// A token.
#[derive(Clone)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// A token as somebody wrote it; white space around it is not part of it.
    ///
    /// # Errors
    /// It is too short, or holds what a header cannot.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() < SHORTEST_TOKEN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let what = format!("a token has at least {SHORTEST_TOKEN} characters: letters, digits, punctuation, no spaces");
            return Err(Error::invalid(what).hint("make one: openssl rand -hex 16"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether somebody who says `offered` knows it. Takes as long for a wrong one as for the right one.
    pub fn is(&self, offered: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(offered).into()
    }

    /// The token itself, for who must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Who may ask.
#[derive(Debug, Clone)]
pub enum Access {
    /// Whoever reaches loopback, under a name of loopback: another name in `Host` is a page of the web that had its name
    /// point here.
    Loopback,
    /// Who knows the token.
    Token(Secret),
    /// Anyone: somebody said so.
    Anyone,
}

/// Where the endpoint listens, and who may ask.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Where; port 0 is any free one.
    pub address: SocketAddr,
    /// Who.
    pub access: Access,
}

impl Listen {
    /// On this port of loopback, for whoever reaches it.
    pub fn loopback(port: u16) -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, port).into(), access: Access::Loopback }
    }

    /// On `address`, for who knows the `token`. Beyond loopback one is needed, unless it is said that anyone may ask.
    ///
    /// # Errors
    /// There is none.
    pub fn new(address: SocketAddr, token: Option<Secret>, insecure: bool) -> Result<Self> {
        let access = match token {
            Some(token) => Access::Token(token),
            None if address.ip().is_loopback() => Access::Loopback,
            None if insecure => Access::Anyone,
            None => {
                let what = format!("whoever reaches {address} could read the pipeline's tables and stop it: no token is set");
                return Err(Error::invalid(what).hint(
                    "set one with the variable RIVERRUN_TOKEN, with --token-file, or with SET serve.token = '${RIVERRUN_TOKEN}'; \
                     --insecure lets anyone ask",
                ));
            }
        };
        Ok(Self { address, access })
    }

    /// The same on another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { address: (self.address.ip(), port).into(), access: self.access.clone() }
    }
}

/// An address as people write it: `0.0.0.0:8000`, `[::]:8000`, `localhost:8000`, or a port of loopback.
///
/// # Errors
/// It is none.
pub fn parse_address(text: &str) -> Result<SocketAddr> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let wrong = || Error::invalid(format!("'{text}' is no address")).hint("write it like 0.0.0.0:8000 or localhost:8000");
    let mut found = text.to_socket_addrs().map_err(|_| wrong())?;
    found.next().ok_or_else(wrong)
}

/// Whether a header `Host` names loopback: `localhost`, a name below it, or an address of loopback.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_loopback_a_token_is_needed_or_the_word_that_none_is() {
        let everywhere = parse_address("0.0.0.0:8000").unwrap();
        let refused = Listen::new(everywhere, None, false).unwrap_err();
        assert!(refused.to_string().contains("RIVERRUN_TOKEN"), "{refused}");
        assert!(matches!(Listen::new(everywhere, None, true).unwrap().access, Access::Anyone));
        let token = Secret::new("correct horse".replace(' ', "-").as_str()).unwrap();
        assert!(matches!(Listen::new(everywhere, Some(token.clone()), false).unwrap().access, Access::Token(_)));
        let local = parse_address("8000").unwrap();
        assert_eq!(local, "127.0.0.1:8000".parse().unwrap());
        assert!(matches!(Listen::new(local, None, false).unwrap().access, Access::Loopback));
        assert!(matches!(Listen::new(local, Some(token), false).unwrap().access, Access::Token(_)));
        assert!(parse_address("nowhere").is_err() && parse_address("1.2.3.4:99999").is_err());
    }

    #[test]
    fn a_token_is_compared_and_never_printed() {
        let token = Secret::new(" 0123456789abcdef\n").unwrap();
        assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeF") && !token.is(b"") && !token.is(b"0123"));
        assert_eq!(format!("{token:?} {:?}", Access::Token(token.clone())), "*** Token(***)");
        assert!(Secret::new("short").is_err() && Secret::new("has spaces in it").is_err());
    }

    #[test]
    fn names_of_loopback() {
        for host in
            ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.0.0.2", "[::1]:8000", "[::1]", "a.localhost:1", "localhost."]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "0.0.0.0:8000", "10.0.0.1", "[::2]"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
