# Databricks notebook source
# MAGIC %md
# MAGIC # Training
# MAGIC Trains the model on the files of the input manifest, measures it on the last month, registers it and lets it become champion if the gate agrees.
# MAGIC Runs the stages whose flags are true and announces one completion. Started by `job_templates/training.json`.

# COMMAND ----------

# DBTITLE 1,Parameters
dbutils.widgets.text("run_id", "", "Run: pipeline, time of its cause, digest")
dbutils.widgets.text("attempt", "1", "Attempt, from 1")
dbutils.widgets.text("token", "", "Idempotency token of this attempt")
dbutils.widgets.text("pipeline", "", "Pipeline in pipelines.toml")
dbutils.widgets.text("kind", "training", "What the run produces")
dbutils.widgets.text("environment", "", "Environment")
dbutils.widgets.text("release", "", "Release that this notebook belongs to")
dbutils.widgets.text("manifest_url", "", "Input manifest: URL")
dbutils.widgets.text("manifest_sha256", "", "Input manifest: sha256")
dbutils.widgets.text("batch_id", "", "Batch: digest of the input files' versions")
dbutils.widgets.text("model_name", "", "Model in Unity Catalog")
dbutils.widgets.text("model_version", "", "Pinned model version; empty for training")
dbutils.widgets.text("output_url", "", "Where scores go; empty for training")
dbutils.widgets.text("traceparent", "", "W3C trace context of the cause")
dbutils.widgets.dropdown("feature_engineering", "true", ["true", "false"], "Stage flag")
dbutils.widgets.dropdown("training", "true", ["true", "false"], "Stage flag")
dbutils.widgets.dropdown("evaluation", "true", ["true", "false"], "Stage flag")
dbutils.widgets.dropdown("publish", "true", ["true", "false"], "Stage flag")
dbutils.widgets.text("learning_rate", "0.05", "Learning rate")
dbutils.widgets.text("num_leaves", "15", "Leaves per tree")
dbutils.widgets.text("n_estimators", "150", "Trees")
dbutils.widgets.text("seed", "13", "Seed")
dbutils.widgets.text("databricks_run_id", "", "Filled in by the job; not a job parameter")

# COMMAND ----------

# DBTITLE 1,Install the wheels of this release
# MAGIC %pip install --quiet --no-deps --no-index --require-hashes -r ../requirements.txt

# COMMAND ----------

# DBTITLE 1,Start
from tidegate_ml import FLIGHT_DELAY
from tidegate_mlops import start

run = start("training", FLIGHT_DELAY, dbutils=dbutils, spark=spark)

# COMMAND ----------

# DBTITLE 1,Make features
run.stage("feature_engineering")

# COMMAND ----------

# DBTITLE 1,Train
run.stage("training")

# COMMAND ----------

# DBTITLE 1,Evaluate
run.stage("evaluation")

# COMMAND ----------

# DBTITLE 1,Publish
run.stage("publish")

# COMMAND ----------

# DBTITLE 1,Finish
dbutils.notebook.exit(run.finish())
