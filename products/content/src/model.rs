//! The rules of this product's accounts, and the numbers that its clients know.

use mosaic::Error;

/// Business numbers of the envelope.
pub(crate) mod number {
    /// The user did something wrong.
    pub(crate) const USER: i32 = 4;
    /// We did.
    pub(crate) const SYSTEM: i32 = 5;
    /// Input of a sign-up.
    pub(crate) const USER_INPUT: i32 = 401_001;
    /// User or password wrong.
    pub(crate) const USER_OR_PASSWORD: i32 = 401_002;
    /// The e-mail address has an account.
    pub(crate) const USER_DUPLICATE: i32 = 401_003;
    /// An article that cannot be.
    pub(crate) const ARTICLE_INVALID: i32 = 402_001;
    /// An article could not be served for a reason of ours.
    pub(crate) const ARTICLE_INTERNAL: i32 = 502_001;
    /// A sign-up failed for a reason of ours.
    pub(crate) const USER_INTERNAL: i32 = 501_001;
}

/// Longest password: bcrypt, which older clients' accounts came from, reads no further.
const PASSWORD_BYTES_MAX: usize = 72;

/// What a client wants to sign up with.
pub(crate) struct SignUp<'a> {
    pub(crate) email: &'a str,
    pub(crate) password: &'a str,
    pub(crate) confirm_password: &'a str,
}

/// Decides whether a sign-up is well formed.
///
/// # Errors
/// `InvalidArgument` with the number and words that the clients show.
pub(crate) fn check_sign_up(sign_up: &SignUp<'_>) -> Result<(), Error> {
    let bad = |text: &'static str| Err(Error::invalid_argument("SIGN_UP_INVALID", text).numbered(number::USER_INPUT));
    if !looks_like_email(sign_up.email) {
        return bad("非法邮箱格式");
    }
    if sign_up.password != sign_up.confirm_password {
        return bad("两次输入的密码不相等");
    }
    let has = |test: fn(char) -> bool| sign_up.password.chars().any(test);
    let is_special = |c: char| !c.is_alphanumeric() && !c.is_control();
    let is_long = sign_up.password.chars().count() >= 8 && sign_up.password.len() <= PASSWORD_BYTES_MAX;
    if is_long && has(char::is_alphabetic) && has(|c| c.is_ascii_digit()) && has(is_special) {
        Ok(())
    } else {
        bad("密码必须包含字母、数字、特殊字符")
    }
}

/// The account system has the last word; this is what the clients want to hear first.
fn looks_like_email(text: &str) -> bool {
    let Some((local, domain)) = text.trim().rsplit_once('@') else {
        return false;
    };
    !local.is_empty() && domain.contains('.') && !domain.starts_with('.') && !domain.ends_with('.')
}

/// Decides whether a profile may be changed like this.
///
/// # Errors
/// `InvalidArgument` with the number and words that the clients show.
pub(crate) fn check_edit(nickname: &str, birthday: &str, about_me: &str) -> Result<(), Error> {
    let bad = |text: &'static str| Err(Error::invalid_argument("PROFILE_INVALID", text).numbered(number::USER));
    let is_day_shaped = birthday.len() == 10
        && birthday.bytes().enumerate().all(|(i, b)| {
            if matches!(i, 4 | 7) {
                b == b'-'
            } else {
                b.is_ascii_digit()
            }
        });
    if nickname.trim().is_empty() {
        return bad("昵称不能为空");
    }
    if about_me.chars().count() > 1024 {
        return bad("关于我过长");
    }
    if is_day_shaped || birthday.is_empty() {
        Ok(())
    } else {
        bad("生日格式不对")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_ups() {
        #[track_caller]
        fn check(email: &str, password: &str, confirm_password: &str, want: Option<&str>) {
            let got = check_sign_up(&SignUp {
                email,
                password,
                confirm_password,
            });
            assert_eq!(got.as_ref().err().map(Error::message), want, "{email} {password}");
            assert!(got.is_ok() || got.unwrap_err().number() == Some(401_001));
        }
        let (email, weak) = (Some("非法邮箱格式"), Some("密码必须包含字母、数字、特殊字符"));
        check("a@b.com", "hello#world123", "hello#world123", None);
        check("a@b", "hello#world123", "hello#world123", email);
        check("", "hello#world123", "hello#world123", email);
        check(
            "a@b.com",
            "hello#world123",
            "hello#world124",
            Some("两次输入的密码不相等"),
        );
        for password in ["", "h#1", "helloworld123", "hello#world", "12345#6789"] {
            check("a@b.com", password, password, weak);
        }
        let longest = format!("a1#{}", "x".repeat(69));
        check("a@b.com", &longest, &longest, None);
        let too_long = format!("{longest}x");
        check("a@b.com", &too_long, &too_long, weak);
        check("a@b.com", "密码密码密码1#", "密码密码密码1#", None);
    }

    #[test]
    fn edits() {
        #[track_caller]
        fn check(nickname: &str, birthday: &str, about_me: &str, want: Option<&str>) {
            let got = check_edit(nickname, birthday, about_me);
            assert_eq!(got.err().map(|error| error.message().to_owned()).as_deref(), want);
        }
        check("泥鳅", "2000-01-01", "", None);
        check("泥鳅", "", "", None);
        check(" ", "2000-01-01", "", Some("昵称不能为空"));
        check("a", "2000/01/01", "", Some("生日格式不对"));
        check("a", "20000101", "", Some("生日格式不对"));
        check("a", "2000-01-01", &"我".repeat(1024), None);
        check("a", "2000-01-01", &"我".repeat(1025), Some("关于我过长"));
    }
}
