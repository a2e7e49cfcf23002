# The scripts that the rules source are Bash's.
SHELL := /bin/bash

.PHONY: run test setup chat lint format clean

## Sets everything up and shows the program at work (the app; in a terminal without a display an answer).
run:
	@src-tauri/setup/run.sh

## Sets everything up and runs every check.
test:
	@src-tauri/setup/test.sh

## Installs what is missing and prepares MLX, and nothing else.
setup:
	@src-tauri/setup/packages.sh
	@if [ "$$(uname -s)" = Linux ]; then . src-tauri/setup/env.sh && src-tauri/setup/mlx-linux/setup.sh; fi

## A conversation in the terminal.
chat: setup
	@cargo run --quiet -p mobile-cli -- chat

lint:
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- -D warnings

format:
	@cargo fmt --all
	@cd ui && npm run --silent format

clean:
	@cargo clean
	@rm -rf .cargo/config.toml ui/node_modules ui/dist
