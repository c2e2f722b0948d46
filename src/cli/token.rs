//! `rollcall token`: creates, lists and revokes tokens.

use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::{
    audit::{CommandLog, Subject},
    server::time,
};
use crate::{
    access::{Role, TokenId, TokenStore},
    cloud::ObjectStore,
    recognition::GalleryName,
    settings::{CloudKind, Settings},
};

/// Arguments of `rollcall token`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Create a token and print it; it is shown only once
    Create {
        /// What the token allows
        #[arg(long)]
        role: Role,
        /// Bind it to a gallery: it is then a key for clients of CompreFace (docs/compreface.md), and nothing else
        #[arg(long, value_name = "NAME")]
        gallery: Option<GalleryName>,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
    },
    /// List the tokens by their ids, without their secrets
    List,
    /// Revoke tokens; servers refuse them after five seconds, as long as they can read the store
    Revoke {
        /// Ids of the tokens
        #[arg(required = true, allow_hyphen_values = true)]
        ids: Vec<String>,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// The store cannot be read or written, or there is no token with an id.
pub(super) async fn run(args: Args, settings: &Settings, store: Arc<dyn ObjectStore>) -> anyhow::Result<()> {
    let log = CommandLog::new(settings, store.clone());
    let tokens = TokenStore::new(store, settings.store.state.clone());
    match args.action {
        Action::Create { role, gallery, label } => {
            // The id is not known before.
            let subject = Subject { gallery: gallery.as_ref(), ..Subject::default() };
            let created = async { Ok(tokens.create(gallery.clone(), role, &label).await?) };
            let token = log.run("token create", subject, created).await?;
            let place = place(settings);
            let bound = gallery.as_ref().map_or_else(String::new, |gallery| format!(" for the gallery {gallery}"));
            eprintln!("token {} with the role {role}{bound}, in {place}; it is shown only now:", token.id());
            println!("{}", token.reveal());
        }
        Action::List => {
            for record in tokens.list().await.context("the tokens cannot be read")? {
                let bound = record.gallery.map_or_else(String::new, |gallery| format!(" gallery={gallery}"));
                let (role, created) = (record.role.to_string(), time(record.created_ms));
                println!("{} {role:<6} {created}{bound} {}", record.id, record.label);
            }
        }
        Action::Revoke { ids } => {
            let ids: Vec<TokenId> = ids.into_iter().map(TokenId).collect();
            let revoked = ids.iter().map(TokenId::to_string).collect::<Vec<_>>().join(" ");
            let subject = Subject { id: Some(revoked), ..Subject::default() };
            let unknown = log.run("token revoke", subject, async { Ok(tokens.revoke(&ids).await?) }).await?;
            ids.iter().filter(|id| !unknown.contains(id)).for_each(|id| println!("{id} revoked"));
            if !unknown.is_empty() {
                let unknown: Vec<String> = unknown.iter().map(TokenId::to_string).collect();
                bail!("there is no token {}; see `rollcall token list`", unknown.join(", "));
            }
        }
    }
    Ok(())
}

/// Describes the store that was changed, because a server with another one does not know the token.
fn place(settings: &Settings) -> String {
    match settings.cloud.kind {
        CloudKind::Local => format!("the data folder {}", settings.local.data_dir.display()),
        CloudKind::Aws => format!("the bucket {}", settings.store.state),
    }
}
