//! API tokens: which one asked is told by when it was made, not by its name alone.

use super::*;
use crate::asker::{Asker, TokenId, Who};
use crate::backup::{Backup, SavedToken};
use crate::event::What;
use crate::id::Revision;
use crate::token::{Access, ApiToken, TokenHash};

fn make(token: TokenHash, named: &str) -> Command {
    Command::PutApiToken {
        token,
        name: name(named),
        access: Access::Write,
        expires: None,
    }
}

fn revoke(named: &str) -> Command {
    Command::DeleteApiToken { name: name(named) }
}

/// What the node that was asked knows of the token.
fn id(state: &State, token: TokenHash) -> TokenId {
    let known = &state.api_tokens()[&token];
    TokenId {
        name: known.name.clone(),
        made: known.made,
    }
}

fn ask(c: &mut Cluster, token: &TokenId) -> Outcome {
    let index = c.state.applied() + 1;
    let who = Who::Token {
        token: token.clone(),
    };
    let node = NodeId(1);
    c.state.apply(
        index,
        &Proposal {
            at: Millis(index),
            command: Command::Rebalance,
            by: Some(Asker { node, who }),
        },
    )
}

#[test]
fn a_token_that_was_revoked_and_made_anew_under_its_name_is_another_one() {
    let mut c = Cluster::of(1);
    c.apply(make([1; 32], "ci")).unwrap();
    let old = id(&c.state, [1; 32]);
    ask(&mut c, &old).unwrap();
    c.apply(revoke("ci")).unwrap();
    c.apply(make([2; 32], "ci")).unwrap();
    let new = id(&c.state, [2; 32]);
    assert_eq!(ask(&mut c, &old).unwrap_err().reason(), "token_revoked");
    ask(&mut c, &new).unwrap();
}

/// So that a log from before tokens were told apart is replayed as it was decided.
#[test]
fn an_asker_of_an_older_vipd_is_known_by_name() {
    let mut c = Cluster::of(1);
    c.apply(make([1; 32], "ci")).unwrap();
    let name = name("ci");
    let made = Revision(0);
    ask(&mut c, &TokenId { name, made }).unwrap();
}

#[test]
fn a_backup_brings_back_no_token_whose_name_or_secret_is_here_and_tells_of_the_others() {
    let mut c = Cluster::of(1);
    c.apply(make([1; 32], "ci")).unwrap();
    c.apply(make([2; 32], "gone")).unwrap();
    let gone = id(&c.state, [2; 32]);
    c.apply(revoke("gone")).unwrap();
    let saved = |hash, named: &str| SavedToken {
        hash,
        token: ApiToken {
            name: name(named),
            access: Access::Admin,
            expires: None,
            created: Millis(1),
            made: Revision(0),
        },
    };
    let tokens = vec![
        saved([1; 32], "other"),
        saved([3; 32], "ci"),
        saved([2; 32], "gone"),
    ];
    let backup = Backup {
        tokens,
        ..c.state.backup()
    };
    c.restore(&backup, 1000).unwrap();
    let has: Vec<(&TokenHash, &str)> = c
        .state
        .api_tokens()
        .iter()
        .map(|(hash, token)| (hash, token.name.as_str()))
        .collect();
    assert_eq!(has, [(&[1; 32], "ci"), (&[2; 32], "gone")]);
    let told = |event: &&crate::event::Event| matches!(&event.what, What::TokenMade { token, .. } if token.as_str() == "gone");
    assert_eq!(c.state.events().iter().filter(told).count(), 2);
    // What was asked with it before it was revoked is not let pass by that it is back.
    assert_eq!(ask(&mut c, &gone).unwrap_err().reason(), "token_revoked");
}
