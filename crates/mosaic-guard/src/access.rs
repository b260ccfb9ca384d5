//! Who may enter a method, as its contract says.

use mosaic_core::{Access, Context, Error, MethodDescriptor, Result};

/// Decides whether the caller of `cx` may call `method`.
///
/// # Errors
/// `Unauthenticated` (`TOKEN_MISSING`) if nobody is signed in where somebody must be; `PermissionDenied` if the role is
/// missing; `NotFound` for an internal method called from outside, which must not even be known to exist.
pub fn check_access(method: &MethodDescriptor, cx: &Context) -> Result<()> {
    match method.access {
        Access::Public | Access::Optional => Ok(()),
        Access::SignedIn => cx.account().map(drop),
        Access::Role(role) => {
            cx.account()?;
            if cx
                .identity()
                .is_some_and(|identity| identity.roles.iter().any(|held| held == role))
            {
                Ok(())
            } else {
                Err(Error::permission_denied(
                    "ROLE_MISSING",
                    format!("needs the role {role}"),
                ))
            }
        }
        Access::Internal if cx.service().is_some() => Ok(()),
        Access::Internal => Err(Error::not_found("METHOD_NOT_FOUND", "no such method")),
    }
}
