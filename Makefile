# Every target does its own set-up, and is quick where that is done.
CARGO = cargo

.PHONY: setup build demo study test notebook lint docs bench clean

setup:
	@bash .ci/setup

build: setup
	$(CARGO) build --release --locked

# Which heads of the small trained checkpoint carry the answer; ends in out/demo.
demo: build
	@bash fixtures/identity-rules/demo.sh out/demo

# Two fine-tunings of the small compliance checkpoint: what they answer and which heads carry it; ends in out/compliance.
study: build
	@bash fixtures/compliance/study.sh out/compliance

# One build for tests, demo and notebook alike.
test: setup
	$(CARGO) test --release --locked
	rm -rf out/test-demo* out/test-capture
	bash fixtures/identity-rules/demo.sh out/test-demo
	bash .ci/notebook out/test-demo/patch
	bash .ci/notebook out/test-demo/ablation
	target/release/interp capture --model fixtures/tiny/mistral --tokens 5,17,3,88,42 --positions last \
	  --sites embed,resid_pre,q,k,v,rot_q,rot_k,k_copy,v_copy,scores,pattern,z,result,mlp_post,ln_final --out out/test-capture
	.venv-notebook/bin/python .ci/arrays out/test-demo/patch out/test-demo/ablation out/test-capture

# The notebook on the demo's folder, with a Python of its own.
notebook: demo
	bash .ci/notebook out/demo/patch

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings

# Kernels by criterion, then the same sweeps by us and by other tools; fixtures/bench/README.md. BENCH="--quick" is short.
bench: build
	$(CARGO) bench --locked --bench kernels
	bash .ci/bench $(BENCH)

docs: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --no-deps --document-private-items

clean:
	$(CARGO) clean
	rm -rf out .venv .venv-notebook .venv-bench
