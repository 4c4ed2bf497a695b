//! Every operation of async-openai that the gateway serves, against the gateway of OPENAI_BASE_URL.
//!
//! Prints one line for each step that succeeded, and exits with code 1 at the first one that did not.
//! WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE, WEBHOOK_SECRET, and WEBHOOK_BODY are a delivery of the gateway.

use std::{env::var, error::Error, time::Duration};

use async_openai::{
    Client,
    config::OpenAIConfig,
    error::OpenAIError,
    traits::RequestOptionsBuilder,
    types::{
        InputSource,
        batches::{BatchCompletionWindow, BatchEndpoint, BatchRequestArgs, BatchStatus},
        chat::{ChatCompletionRequestUserMessage, CreateChatCompletionRequest, CreateChatCompletionRequestArgs},
        files::{CreateFileRequestArgs, FileInput, FilePurpose},
        responses::{CreateResponseArgs, ResponseStreamEvent, Status},
        uploads::{AddUploadPartRequest, CompleteUploadRequest, CreateUploadRequest, UploadPurpose},
    },
    webhooks::Webhooks,
};
use futures::StreamExt;

type Outcome = Result<(), Box<dyn Error>>;

const MODEL: &str = "mira";
const POLL: Duration = Duration::from_millis(200);
const LINES: usize = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Err(error) = run().await {
        eprintln!("sdk-rust: {error}");
        std::process::exit(1);
    }
}

async fn run() -> Outcome {
    let client = Client::new();
    models(&client).await?;
    files_and_batches(&client).await?;
    uploads(&client).await?;
    completions(&client).await?;
    responses(&client).await?;
    errors(&client).await?;
    webhook()
}

fn done(step: &str) {
    println!("{step}");
}

fn check(is_true: bool, what: &str) -> Outcome {
    if is_true { Ok(()) } else { Err(what.into()) }
}

fn line(number: usize) -> String {
    format!(
        r#"{{"custom_id": "line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": {{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello {number}"}}]}}}}"#
    )
}

fn jsonl() -> Vec<u8> {
    (0..LINES).map(|number| line(number) + "\n").collect::<String>().into_bytes()
}

async fn models(client: &Client<OpenAIConfig>) -> Outcome {
    let listed = client.models().list().await?;
    let model = client.models().retrieve(&listed.data[0].id).await?;
    check(model.id == listed.data[0].id, "models.retrieve: another model")?;
    done("models");
    Ok(())
}

async fn files_and_batches(client: &Client<OpenAIConfig>) -> Outcome {
    let source = InputSource::VecU8 { filename: "requests.jsonl".into(), vec: jsonl() };
    let request = CreateFileRequestArgs::default().file(FileInput { source }).purpose(FilePurpose::Batch).build()?;
    let file = client.files().create(request).await?;
    check(client.files().retrieve(&file.id).await? == file, "files.retrieve: another file")?;
    check(client.files().list().await?.data.contains(&file), "files.list: the file is missing")?;
    check(client.files().content(&file.id).await?.to_vec() == jsonl(), "files.content: other content")?;
    done("files");

    let request = BatchRequestArgs::default()
        .input_file_id(&file.id)
        .endpoint(BatchEndpoint::V1ChatCompletions)
        .completion_window(BatchCompletionWindow::W24H)
        .build()?;
    let mut batch = client.batches().create(request.clone()).await?;
    while !matches!(batch.status, BatchStatus::Completed | BatchStatus::Failed) {
        tokio::time::sleep(POLL).await;
        batch = client.batches().retrieve(&batch.id).await?;
    }
    let counts = batch.request_counts.clone().ok_or("batches.retrieve: no request_counts")?;
    check(counts.completed as usize == LINES, "batches: not every line has an answer")?;
    check(batch.usage.is_some(), "batches: no usage")?;
    let output = client.files().content(batch.output_file_id.as_ref().ok_or("batches: no output file")?).await?;
    check(String::from_utf8(output.to_vec())?.lines().count() == LINES, "files.content: a line is missing")?;
    check(client.batches().list().await?.data.iter().any(|each| each.id == batch.id), "batches.list: no batch")?;
    done("batches");

    let cancelled = client.batches().create(request).await?;
    let cancelled = client.batches().cancel(&cancelled.id).await?;
    check(matches!(cancelled.status, BatchStatus::Cancelling | BatchStatus::Cancelled), "batches.cancel")?;
    check(client.files().delete(&file.id).await?.deleted, "files.delete")?;
    done("batches.cancel");
    Ok(())
}

async fn uploads(client: &Client<OpenAIConfig>) -> Outcome {
    let content = jsonl();
    let upload = client
        .uploads()
        .create(CreateUploadRequest {
            filename: "parts.jsonl".into(),
            purpose: UploadPurpose::Batch,
            bytes: content.len() as u64,
            mime_type: "application/jsonl".into(),
            expires_after: None,
        })
        .await?;
    let data = InputSource::VecU8 { filename: "part".into(), vec: content };
    let part = client.uploads().add_part(&upload.id, AddUploadPartRequest { data }).await?;
    let request = CompleteUploadRequest { part_ids: vec![part.id], md5: None };
    let completed = client.uploads().complete(&upload.id, request).await?;
    check(completed.file.is_some(), "uploads.complete: no file")?;
    done("uploads");
    Ok(())
}

fn chat() -> Result<CreateChatCompletionRequest, OpenAIError> {
    CreateChatCompletionRequestArgs::default()
        .model(MODEL)
        .messages([ChatCompletionRequestUserMessage::from("Hello").into()])
        .build()
}

async fn completions(client: &Client<OpenAIConfig>) -> Outcome {
    let answer = client.chat().create(chat()?).await?;
    let text = answer.choices[0].message.content.clone().unwrap_or_default();
    check(!text.is_empty(), "chat.create: no text")?;
    check(client.chat().retrieve(&answer.id).await?.id == answer.id, "chat.retrieve: another completion")?;
    done("chat.completions");

    let mut stream = client.chat().create_stream(chat()?).await?;
    let mut streamed = String::new();
    while let Some(chunk) = stream.next().await {
        for choice in chunk?.choices {
            streamed += choice.delta.content.as_deref().unwrap_or_default();
        }
    }
    check(!streamed.is_empty(), "chat.create_stream: no text")?;
    done("chat.completions as a stream");

    let accepted = client.chat().header("prefer", "respond-async")?.create(chat()?).await?;
    let mut found = accepted.clone();
    while found.choices.is_empty() {
        tokio::time::sleep(POLL).await;
        found = client.chat().retrieve(&accepted.id).await?;
    }
    done("chat.completions later");
    Ok(())
}

async fn responses(client: &Client<OpenAIConfig>) -> Outcome {
    let request = CreateResponseArgs::default().model(MODEL).input("Hello").background(true).build()?;
    let mut response = client.responses().create(request.clone()).await?;
    while matches!(response.status, Status::Queued | Status::InProgress) {
        tokio::time::sleep(POLL).await;
        response = client.responses().retrieve(&response.id).await?;
    }
    check(response.status == Status::Completed, "responses: not completed")?;
    check(response.output_text().is_some_and(|text| !text.is_empty()), "responses: no output_text")?;
    done("responses in the background");

    let mut stream = client.responses().retrieve_stream(&response.id).await?;
    let mut is_completed = false;
    while let Some(event) = stream.next().await {
        is_completed |= matches!(event?, ResponseStreamEvent::ResponseCompleted(_));
    }
    check(is_completed, "responses.retrieve_stream: no response.completed")?;
    check(client.responses().delete(&response.id).await?.deleted, "responses.delete")?;

    let cancelled = client.responses().create(request).await?;
    client.responses().cancel(&cancelled.id).await?;
    let request = CreateResponseArgs::default().model(MODEL).input("Hello").build()?;
    let mut stream = client.responses().create_stream(request.clone()).await?;
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        if let ResponseStreamEvent::ResponseOutputTextDelta(delta) = event? {
            text += &delta.delta;
        }
    }
    check(!text.is_empty(), "responses.create_stream: no text")?;
    let waited = client.responses().create(request).await?;
    check(waited.status == Status::Completed, "responses.create: not completed")?;
    done("responses");
    Ok(())
}

async fn errors(client: &Client<OpenAIConfig>) -> Outcome {
    match client.batches().retrieve("batch_none").await {
        Err(OpenAIError::ApiError(error)) => {
            check(error.status_code == 404, "an unknown batch: not a 404")?;
            check(error.api_error.code.as_deref() == Some("not_found"), "an unknown batch: another code")?;
        }
        _ => return Err("an unknown batch: no error of the API".into()),
    }
    done("errors");
    Ok(())
}

fn webhook() -> Outcome {
    let event = Webhooks::build_event(
        &var("WEBHOOK_BODY")?,
        &var("WEBHOOK_SIGNATURE")?,
        &var("WEBHOOK_TIMESTAMP")?,
        &var("WEBHOOK_ID")?,
        &var("WEBHOOK_SECRET")?,
    )?;
    check(format!("{event:?}").contains("ResponseCompleted"), "webhooks.build_event: another event")?;
    done("webhooks");
    Ok(())
}
