//! What a node does of what is to be done.

use std::{fmt, str::FromStr};

use lmao_ports::Role;
use serde::{Deserialize, Serialize};

const ALL: [Role; 3] = [Role::Gateway, Role::Worker, Role::Projector];

/// As it is written.
const fn name(role: Role) -> &'static str {
    match role {
        Role::Gateway => "gateway",
        Role::Worker => "worker",
        Role::Projector => "projector",
    }
}

/// The roles of a node: `all`, or some of them with commas between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Roles(Vec<Role>);

impl Roles {
    /// Whether it has this one.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// The name of each, with commas between.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|role| name(*role)).collect();
        names.join(",")
    }

    /// Each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Role> {
        self.0.iter().copied()
    }

    /// Whether it has all: what a node needs that shares its stores with nobody.
    pub(crate) fn is_all(&self) -> bool {
        ALL.into_iter().all(|role| self.has(role))
    }
}

impl Default for Roles {
    fn default() -> Self {
        Self(ALL.to_vec())
    }
}

impl FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "all" {
            return Ok(Self::default());
        }
        let mut roles = vec![];
        for wanted in text.split(',').map(str::trim) {
            let known = ALL.into_iter().find(|role| name(*role) == wanted);
            roles.push(
                known.ok_or_else(|| format!("{wanted:?} is no role; use all, or some of gateway,worker,projector"))?,
            );
        }
        roles.sort_unstable();
        roles.dedup();
        Ok(Self(roles))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("all");
        }
        f.write_str(&self.names())
    }
}

impl TryFrom<String> for Roles {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Roles> for String {
    fn from(roles: Roles) -> Self {
        roles.to_string()
    }
}
