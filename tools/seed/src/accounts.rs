//! Everybody's account: signed up the first time, signed in every time, and again when a token has ended.

use std::sync::Mutex;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mosaic_core::lock;
use serde_json::{Value, json};

use crate::api::{Api, Failure, OK, Reply};
use crate::args::Content;
use crate::console::Console;
use crate::site::{Person, Site};

/// The envelope's number for an e-mail address that has an account.
const EMAIL_TAKEN: i64 = 401_003;
/// The envelope's number for a user or a password that is wrong.
const WRONG_PASSWORD: i64 = 401_002;

/// See the module documentation; people by their position in the site.
pub(crate) struct Accounts<'a> {
    api: &'a Api,
    password: &'a str,
    people: &'a [Person],
    tokens: Vec<Mutex<String>>,
    /// Who had an account already.
    was_there: Vec<bool>,
}

impl<'a> Accounts<'a> {
    /// Signs everybody up who has no account yet, and everybody in.
    pub(crate) async fn open(
        api: &'a Api,
        console: &Console,
        site: &'a Site,
        wanted: &'a Content,
    ) -> Result<Self, Failure> {
        let mut accounts = Self {
            api,
            password: &wanted.password,
            people: &site.people,
            tokens: site.people.iter().map(|_| Mutex::default()).collect(),
            was_there: Vec::new(),
        };
        console.begin("accounts", site.people.len(), 0);
        accounts.was_there = stream::iter(0..site.people.len())
            .map(|who| accounts.enter(console, who))
            .buffered(wanted.parallel.into())
            .try_collect()
            .await?;
        console.end();
        Ok(accounts)
    }

    pub(crate) fn api(&self) -> &Api {
        self.api
    }

    /// Had he an account already?
    pub(crate) fn was_there(&self, who: usize) -> bool {
        self.was_there[who]
    }

    pub(crate) fn n_new(&self) -> usize {
        self.was_there.iter().filter(|was_there| !**was_there).count()
    }

    /// Asks for something in somebody's name.
    pub(crate) async fn get(&self, who: usize, path: &str) -> Result<Value, Failure> {
        let reply = self.api.get(path, &self.token(who)).await?;
        if reply.status != 401 {
            return reply.ok(path);
        }
        self.sign_in(who).await?;
        self.api.get(path, &self.token(who)).await?.ok(path)
    }

    /// Does something in somebody's name.
    pub(crate) async fn post(&self, who: usize, path: &str, body: &Value) -> Result<Value, Failure> {
        let reply = self.api.post(path, &self.token(who), body).await?;
        if reply.status != 401 {
            return reply.ok(path);
        }
        self.sign_in(who).await?;
        self.api.post(path, &self.token(who), body).await?.ok(path)
    }

    fn token(&self, who: usize) -> String {
        lock(&self.tokens[who]).clone()
    }

    /// Opens one account; returns whether it was there.
    async fn enter(&self, console: &Console, who: usize) -> Result<bool, Failure> {
        let Person {
            email,
            nickname,
            birthday,
            about_me,
            ..
        } = &self.people[who];
        let body = json!({"email": email, "password": self.password, "confirmPassword": self.password});
        let path = "/users/signup";
        let reply = self.api.post(path, "", &body).await?;
        let was_there = reply.code == EMAIL_TAKEN;
        if !was_there {
            reply.ok(path)?;
        }
        self.sign_in(who).await?;
        let profile = json!({"nickname": nickname, "birthday": birthday, "aboutMe": about_me});
        self.post(who, "/users/edit", &profile).await?;
        console.step();
        Ok(was_there)
    }

    async fn sign_in(&self, who: usize) -> Result<(), Failure> {
        let (path, email) = ("/users/login", &self.people[who].email);
        let body = json!({"email": email, "password": self.password});
        let reply: Reply = self.api.post(path, "", &body).await?;
        match reply.code {
            OK if !reply.token.is_empty() => {
                *lock(&self.tokens[who]) = reply.token;
                Ok(())
            }
            WRONG_PASSWORD => Err(Failure::Password(email.clone())),
            OK => Err(Failure::Strange(
                self.api.base().to_owned(),
                "a sign-in without x-jwt-token".to_owned(),
            )),
            _ => reply.ok(path).map(drop),
        }
    }
}
