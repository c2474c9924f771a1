# Databricks notebook source
# MAGIC %md
# MAGIC # Scoring
# MAGIC Scores the files of the input manifest with one pinned model version and publishes the scores by writing their manifest last.
# MAGIC Runs the stages whose flags are true and announces one completion. Started by `job_templates/scoring.json`.

# COMMAND ----------

# DBTITLE 1,Parameters
dbutils.widgets.text("run_id", "", "Run: pipeline, time of its cause, digest")
dbutils.widgets.text("attempt", "1", "Attempt, from 1")
dbutils.widgets.text("token", "", "Idempotency token of this attempt")
dbutils.widgets.text("pipeline", "", "Pipeline in pipelines.toml")
dbutils.widgets.text("kind", "scoring", "What the run produces")
dbutils.widgets.text("environment", "", "Environment")
dbutils.widgets.text("release", "", "Release that this notebook belongs to")
dbutils.widgets.text("manifest_url", "", "Input manifest: URL")
dbutils.widgets.text("manifest_sha256", "", "Input manifest: sha256")
dbutils.widgets.text("batch_id", "", "Batch: digest of the input files' versions")
dbutils.widgets.text("model_name", "", "Model in Unity Catalog")
dbutils.widgets.text("model_version", "", "Pinned model version; empty for training")
dbutils.widgets.text("output_url", "", "Where scores go; empty for training")
dbutils.widgets.text("traceparent", "", "W3C trace context of the cause")
dbutils.widgets.dropdown("validation", "true", ["true", "false"], "Stage flag")
dbutils.widgets.dropdown("feature_engineering", "true", ["true", "false"], "Stage flag")
dbutils.widgets.dropdown("batch_scoring", "true", ["true", "false"], "Stage flag")
dbutils.widgets.dropdown("publish", "true", ["true", "false"], "Stage flag")
dbutils.widgets.text("max_quarantined_fraction", "0.1", "Share of bad rows above which the batch is refused")
dbutils.widgets.text("databricks_run_id", "", "Filled in by the job; not a job parameter")

# COMMAND ----------

# DBTITLE 1,Install the wheels of this release
# MAGIC %pip install --quiet --no-deps --no-index --require-hashes -r ../requirements.txt

# COMMAND ----------

# DBTITLE 1,Start
from tidegate_ml import FLIGHT_DELAY
from tidegate_mlops import start

run = start("scoring", FLIGHT_DELAY, dbutils=dbutils, spark=spark)

# COMMAND ----------

# DBTITLE 1,Check the input
run.stage("validation")

# COMMAND ----------

# DBTITLE 1,Make features
run.stage("feature_engineering")

# COMMAND ----------

# DBTITLE 1,Score
run.stage("batch_scoring")

# COMMAND ----------

# DBTITLE 1,Publish
run.stage("publish")

# COMMAND ----------

# DBTITLE 1,Finish
dbutils.notebook.exit(run.finish())
