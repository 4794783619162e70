-- Items by the job that they are of: one pod's bill, and what else a pod holds.

CREATE INDEX bill_job_id_idx ON bill (job_id, cluster);
