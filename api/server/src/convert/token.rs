//! API tokens.

use vipd_api_types as wire;
use vipd_core::token::{Access, ApiToken};

use crate::clock::rfc3339;

pub(crate) fn access_to_wire(access: Access) -> wire::Access {
    match access {
        Access::Read => wire::Access::Read,
        Access::Write => wire::Access::Write,
        Access::Admin => wire::Access::Admin,
    }
}

pub(crate) fn access_from_wire(access: wire::Access) -> Access {
    match access {
        wire::Access::Read => Access::Read,
        wire::Access::Write => Access::Write,
        wire::Access::Admin => Access::Admin,
    }
}

/// A token without its secret, which nobody has any more.
pub(crate) fn to_wire(token: &ApiToken) -> wire::ApiToken {
    wire::ApiToken {
        name: token.name.to_string(),
        access: access_to_wire(token.access),
        created: rfc3339(token.created),
        expires: token.expires.map(rfc3339),
    }
}
