"""What settings of other code bases are called here; see the table of words in DESIGN.md."""

OURS = {
    "act_exec_horizon": "policy.action_horizon",
    "act_pred_horizon": "policy.pred_horizon",
    "action_dim": "nothing: the data says it",
    "algo": "policy",
    "amp": "train.precision=bf16",
    "bridgedata": "task",
    "checkpoint_path": "resume=true for a run, or init_from for its weights",
    "chunk_size": "policy.pred_horizon",
    "data_path": "data.path",
    "dataset_path": "data.path",
    "dataset_root": "data.path",
    "dataset_repo_id": "data.path",
    "eval_batches": "val.max_batches",
    "eval_interval": "val.offline_freq",
    "eval_n_episodes": "val.num_episodes",
    "eval_n_envs": "nothing: episodes follow one another",
    "gradient_accumulate_every": "train.grad_accum_steps",
    "gradient_accumulation_steps": "train.grad_accum_steps",
    "horizon": "policy.pred_horizon, counted from now on",
    "image_keys": "data.observations",
    "learning_rate": "optim.lr",
    "log_interval": "train.log_freq",
    "max_grad_norm": "train.grad_clip_norm",
    "n_action_steps": "policy.action_horizon",
    "n_obs_steps": "policy.obs_horizon",
    "name": "session",
    "num_epochs": "train.epochs",
    "num_steps": "train.steps",
    "num_workers": "data.threads",
    "output_dir": "runs_dir",
    "repo_id": "data.path",
    "resize_shape": "data.image_size=HEIGHTxWIDTH",
    "resume_path": "resume=true with the run's session",
    "root": "data.path",
    "sample_weights": "data.weights",
    "save_dir": "runs_dir",
    "save_interval": "train.save_freq",
    "state_key": "data.observations",
    "train_batch_size": "train.batch_size",
    "use_amp": "train.precision=bf16",
    "use_ema": "train.ema_max_decay, 0 for none",
    "val_batch_size": "val.batch_size",
    "val_offline_freq": "val.offline_freq",
    "val_online_freq": "val.online_freq",
}
"""The last part of a foreign key to our key, or to a sentence."""


def hint(key: str) -> str | None:
    """A sentence about a key of another code base; None for one we do not know."""
    if key.startswith("eval."):
        return "`deft eval RUN` takes it; episodes played while training are val.num_episodes."
    leaf = key.rsplit(".", 1)[-1].removeprefix("--").replace("-", "_")
    return f"Here it is {OURS[leaf]}." if leaf in OURS else None
